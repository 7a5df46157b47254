//! `tiny-llm`: the engine on the command line.
//!
//! The engine is either the reference or the learner's crate, chosen when this is built (feature `reference` or
//! `student`). Both have the same interface, so nothing here knows which one it talks to.

mod arguments;
mod bench;
mod chat;
mod convert;
mod generate;
mod info;
mod kernels;
mod logits;
mod machine;
mod measurements;
mod model;
mod perplexity;
mod report;
mod unfinished;

#[cfg(not(any(feature = "reference", feature = "student")))]
compile_error!("choose the engine: --features reference or --features student");

// With both features on, as `--all-features` does, the reference wins.
#[cfg(all(feature = "student", not(feature = "reference")))]
pub(crate) use tiny_llm as engine;
#[cfg(feature = "reference")]
pub(crate) use tiny_llm_reference as engine;

use std::process::ExitCode;

use clap::Parser;

use crate::arguments::{Arguments, Command};

/// A model may come from a stranger, and with it a chat template and a tokenizer.
#[global_allocator]
static ALLOCATOR: checkpoint::BoundedAllocator = checkpoint::BoundedAllocator;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    mlx_custom::keep_freed_memory();
    let outcome = unfinished::guard(|| match &arguments.command {
        Command::Chat(chat) => chat::run(chat),
        Command::Generate(generate) => generate::run(generate),
        Command::Logits(logits) => logits::run(logits),
        Command::Perplexity(perplexity) => perplexity::run(perplexity),
        Command::Info(info) => info::run(info),
        Command::Convert(convert) => convert::run(convert),
        Command::Bench(bench) => bench::run(bench),
        Command::Machine(machine) => machine::run(machine),
        Command::Report(report) => measurements::report::run(report),
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            // 2, as for a wrong command line: something about the call has to change.
            ExitCode::from(2)
        }
    }
}
