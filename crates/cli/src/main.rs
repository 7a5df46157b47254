//! `tiny-llm`: the engine on the command line.
//!
//! The engine is either the reference or the learner's crate, chosen when this is built (feature `reference` or
//! `student`). Both have the same interface, so nothing here knows which one it talks to.

// They panic where a stream is full: see `output`.
#![deny(clippy::print_stdout, clippy::print_stderr)]

mod arguments;
mod bench;
mod chat;
mod convert;
mod failure;
mod generate;
mod info;
mod kernels;
mod logits;
mod machine;
mod measurements;
mod model;
mod output;
mod perplexity;
mod progress;
mod report;
mod signals;
mod text_tokens;
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
use clap::error::ErrorKind;

use crate::arguments::{Arguments, Command};
use crate::output::note;

/// As for a wrong command line: something about the call has to change.
const FAILED: u8 = 2;

/// A model may come from a stranger, and with it a chat template and a tokenizer.
#[global_allocator]
static ALLOCATOR: checkpoint::BoundedAllocator = checkpoint::BoundedAllocator;

fn main() -> ExitCode {
    signals::install();
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return explain_command_line(&error),
    };
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
        Err(error) => failed(&error),
    }
}

fn failed(error: &anyhow::Error) -> ExitCode {
    if error.is::<output::Closed>() {
        return ExitCode::SUCCESS;
    }
    note!("error: {}", failure::sentence(error));
    ExitCode::from(FAILED)
}

/// Help and version, which were asked for, or what is wrong with the arguments.
fn explain_command_line(error: &clap::Error) -> ExitCode {
    if error.kind() == ErrorKind::InvalidUtf8 {
        note!("error: {}", failure::not_utf8(std::env::args_os().skip(1)));
        return ExitCode::from(FAILED);
    }
    match error.print() {
        Err(full) if !error.use_stderr() => failed(&output::failed(full)),
        // If standard error can't be written either, the exit status has to say it.
        _ => ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(FAILED)),
    }
}
