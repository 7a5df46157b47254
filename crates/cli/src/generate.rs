//! `tiny-llm generate`: plain continuation of a text.

use std::io::{self, Write};
use std::ops::ControlFlow;

use anyhow::Result;
use checkpoint::Tokenizer;

use crate::arguments::{Generate, SamplingArguments};
use crate::engine::{GenerateOptions, Generation, Sampler, generate_text};
use crate::model::{Loaded, load};
use crate::report;

pub fn run(arguments: &Generate) -> Result<()> {
    let loaded = load(&arguments.model)?;
    let prompt = loaded.tokens(&arguments.input)?;
    let tokenizer = loaded.tokenizer()?;
    let generation = stream(&loaded, &tokenizer, &prompt, &arguments.sampling, !arguments.json)?;
    if arguments.json {
        println!("{}", report::json(&prompt, &generation));
    }
    report::print_timings(&generation);
    Ok(())
}

/// Generates after `prompt`, showing the text as it comes.
pub fn stream(
    loaded: &Loaded,
    tokenizer: &Tokenizer,
    prompt: &[u32],
    arguments: &SamplingArguments,
    show: bool,
) -> Result<Generation> {
    let sampler_options = arguments.sampler_options()?;
    // Day 6's engine talks: what only asks for the most likely token needs nothing of day 7.
    let is_greedy = sampler_options.temperature == 0.0 && sampler_options.repetition_penalty.is_none();
    let mut sampler = if is_greedy { Sampler::greedy() } else { Sampler::from_options(&sampler_options)? };
    let options = GenerateOptions {
        max_tokens: arguments.max_tokens,
        stop_tokens: loaded.checkpoint.config().eos_token_ids.clone(),
        stop_strings: arguments.stop_strings.clone(),
    };
    let mut decoder = tokenizer.stream();
    let mut output = io::stdout().lock();
    let generation = generate_text(&loaded.model, &mut decoder, prompt, &mut sampler, &options, &mut |text| {
        if !show {
            return ControlFlow::Continue(());
        }
        // Nobody reads any more (the other end of a pipe is closed): there is no point in going on.
        match output.write_all(text.as_bytes()).and_then(|()| output.flush()) {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        }
    })?;
    if show {
        // A closed pipe was noticed above and is no error.
        let _ = writeln!(output);
    }
    Ok(generation)
}
