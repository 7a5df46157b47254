//! What a generation cost.

use std::time::Duration;

use serde_json::{Value, json};

use crate::engine::{Generation, StopReason, Timings};
use crate::output::note;

/// Two rates on standard error, where they do not mix with the text.
pub fn print_timings(generation: &Generation) {
    let Timings { prompt_tokens, prefill, decode_tokens, decode } = generation.timings;
    note!(
        "prefill: {prompt_tokens} tokens in {:.2} s, {:.1} tokens/s (the time to the first token); \
         decode: {decode_tokens} tokens in {:.2} s, {:.1} tokens/s; {}",
        prefill.as_secs_f64(),
        rate(prompt_tokens, prefill),
        decode.as_secs_f64(),
        rate(decode_tokens, decode),
        reason(&generation.stop_reason),
    );
}

/// The same for other programs.
pub fn json(prompt: &[u32], generation: &Generation) -> Value {
    let Timings { prompt_tokens, prefill, decode_tokens, decode } = generation.timings;
    json!({
        "prompt": prompt,
        "tokens": generation.tokens,
        "text": generation.text,
        "stop_reason": reason(&generation.stop_reason),
        "prompt_tokens": prompt_tokens,
        "prefill_seconds": prefill.as_secs_f64(),
        "prefill_tokens_per_second": rate(prompt_tokens, prefill),
        "decode_tokens": decode_tokens,
        "decode_seconds": decode.as_secs_f64(),
        "decode_tokens_per_second": rate(decode_tokens, decode),
    })
}

fn rate(tokens: usize, time: Duration) -> f64 {
    if time.is_zero() { 0.0 } else { tokens as f64 / time.as_secs_f64() }
}

fn reason(reason: &StopReason) -> String {
    match reason {
        StopReason::MaxTokens => "stopped at the limit of tokens".into(),
        StopReason::StopToken(token) => format!("stopped at stop token {token}"),
        StopReason::StopString(text) => format!("stopped at stop string {text:?}"),
        StopReason::ContextFull => "stopped because the context is full".into(),
        StopReason::Cancelled => "cancelled".into(),
    }
}
