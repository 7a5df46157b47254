//! Generation with a scripted model, greedily, with everything that was streamed.

use std::ops::ControlFlow;

use tiny_llm::{GenerateOptions, Generation, LanguageModel, Result, Sampler, generate, generate_text};

use crate::scripted::{BytesDecoder, ScriptedModel};

/// Tokens and their bytes in these tests: token i stands for TEXTS[i].
pub const TEXTS: [&[u8]; 9] =
    [b"Hello", b" wor", b"ld", b"E", b"N", b"D", "👋".as_bytes(), &[0xF0, 0x9F], &[0x8C, 0x8D]];

pub fn up_to(max_tokens: usize) -> GenerateOptions {
    GenerateOptions { max_tokens, stop_tokens: Vec::new(), stop_strings: Vec::new() }
}

pub fn text_options(max_tokens: usize, stop_strings: &[&str]) -> GenerateOptions {
    GenerateOptions { stop_strings: strings(stop_strings), ..up_to(max_tokens) }
}

pub fn run(model: &dyn LanguageModel, prompt: &[u32], options: &GenerateOptions) -> Result<Generation> {
    run_streaming(model, prompt, options).map(|(generation, _)| generation)
}

/// Generates greedily; also returns what `on_token` received.
pub fn run_streaming(
    model: &dyn LanguageModel,
    prompt: &[u32],
    options: &GenerateOptions,
) -> Result<(Generation, Vec<u32>)> {
    let mut streamed = Vec::new();
    let mut on_token = |token| {
        streamed.push(token);
        ControlFlow::Continue(())
    };
    let generation = generate(model, prompt, &mut Sampler::greedy(), options, &mut on_token)?;
    Ok((generation, streamed))
}

pub fn run_text(script: &[u32], options: &GenerateOptions, cancel_at: usize) -> Result<(Generation, Vec<String>)> {
    run_text_on(&ScriptedModel::answering(1, script), options, cancel_at)
}

/// Generates text greedily; also returns the pieces that `on_text` received. The piece `cancel_at` cancels.
pub fn run_text_on(
    model: &ScriptedModel,
    options: &GenerateOptions,
    cancel_at: usize,
) -> Result<(Generation, Vec<String>)> {
    let mut pieces = Vec::new();
    let mut on_text = |piece: &str| {
        pieces.push(piece.to_owned());
        if pieces.len() == cancel_at { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let mut decoder = BytesDecoder::new(&TEXTS);
    let generation = generate_text(model, &mut decoder, &[4], &mut Sampler::greedy(), options, &mut on_text)?;
    Ok((generation, pieces))
}

pub fn strings(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|&text| text.to_owned()).collect()
}
