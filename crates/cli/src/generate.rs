//! `tiny-llm generate`: plain continuation of a text.

use std::ops::ControlFlow;

use anyhow::Result;
use checkpoint::Tokenizer;

use crate::arguments::{Generate, SamplingArguments};
use crate::engine::{GenerateOptions, Generation, generate_text};
use crate::model::{Loaded, Setting};
use crate::output;
use crate::report;

pub fn run(arguments: &Generate) -> Result<()> {
    let setting = Setting::new(&arguments.model)?;
    arguments.sampling.sampler()?;
    let opened = setting.open()?;
    let tokenizer = opened.tokenizer()?;
    let prompt = opened.tokens(&arguments.input)?;
    let loaded = opened.load()?;
    let generation = stream(&loaded, &tokenizer, &prompt, &arguments.sampling, !arguments.json)?;
    if arguments.json {
        output::json(&report::json(&prompt, &generation))?;
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
    let mut sampler = arguments.sampler()?;
    let options = GenerateOptions {
        max_tokens: arguments.max_tokens,
        stop_tokens: loaded.checkpoint.config().eos_token_ids.clone(),
        stop_strings: arguments.stop_strings.clone(),
    };
    let mut decoder = tokenizer.stream();
    let mut not_shown = None;
    let generation = generate_text(&loaded.model, &mut decoder, prompt, &mut sampler, &options, &mut |text| {
        if !show {
            return ControlFlow::Continue(());
        }
        match output::answer(text) {
            Ok(()) => ControlFlow::Continue(()),
            // There is no point in going on.
            Err(error) => {
                not_shown = Some(error);
                ControlFlow::Break(())
            }
        }
    });
    if let Some(error) = not_shown {
        return Err(error);
    }
    let generation = generation.map_err(|error| loaded.explain(error.into()))?;
    if show {
        output::line("")?;
    }
    Ok(generation)
}
