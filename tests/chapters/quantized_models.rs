//! The tiny quantized models and the built-in one, run at some stage and compared with transformers.

use checkpoint::{Checkpoint, registry};
use grader::{Fixture, Tolerance, check_close, check_rule};
use mlx_rs::ops::indexing::{TryIndexOp, argmax_axis};
use mlx_rs::{Array, Dtype};
use tiny_llm::{Error, KvCache, LogitsToKeep, Qwen2Model, Result, Stage, StopReason};

use crate::cached_model::{answer, forward_in_chunks, load, new_cache};

/// The fixture with the expected logits.
pub const MODELS: &str = "week2_day2a";

/// Logits of the case's tokens at once, without a cache.
pub fn check_logits(model: &str, prompt: &str, stage: Stage) {
    let fixture = Fixture::load(MODELS);
    let case = fixture.case(&format!("logits/{model}/{prompt}"));
    let run = || load(model, case.dtype(), stage)?.forward(&case.array("ids"), None, LogitsToKeep::All);
    case.check(run());
}

/// The same, in calls of these lengths.
pub fn check_logits_in_chunks(name: &str, prompt: &str, chunks: &[i32], stage: Stage) {
    let fixture = Fixture::load(MODELS);
    let case = fixture.case(&format!("logits/{name}/{prompt}"));
    let run = || {
        let model = load(name, case.dtype(), stage)?;
        forward_in_chunks(&model, &mut new_cache(&model), &case.array("ids"), chunks)
    };
    let result = run();
    // All tokens at once are right: then the place of a chunk is what went wrong.
    let at_once = || load(name, case.dtype(), stage)?.forward(&case.array("ids"), None, LogitsToKeep::All);
    if let (Ok(in_chunks), Ok(at_once)) = (&result, at_once())
        && is_close(&at_once, in_chunks, chunks[0])
        && !is_close(&at_once, in_chunks, in_chunks.dim(1))
    {
        let seen = format!("in chunks of {chunks:?} with a cache, the first is as without one, and a later one is not");
        let cause = "looks like: the cache's offset, or what it returns, is ignored: a later chunk starts at the offset, and attends \
                     to all earlier keys";
        check_rule(&format!("logits/{name}/{prompt} in chunks"), Err(seen), cause);
    }
    case.check(result);
}

/// Whether the logits `[B, L, V]` of the first tokens are alike.
fn is_close(one: &Array, other: &Array, n_tokens: i32) -> bool {
    let first = |logits: &Array| logits.try_index((.., ..n_tokens, ..))?.as_dtype(Dtype::Float32);
    let close = || first(one)?.all_close(first(other)?, 5e-2, 5e-2, None);
    close().unwrap_or(false)
}

/// The same, with caches that the caller made.
pub fn check_logits_with_caches(
    model: &str,
    prompt: &str,
    chunks: &[i32],
    caches: &mut [Box<dyn KvCache>],
    stage: Stage,
) {
    let fixture = Fixture::load(MODELS);
    let case = fixture.case(&format!("logits/{model}/{prompt}"));
    let mut run = || forward_in_chunks(&load(model, case.dtype(), stage)?, caches, &case.array("ids"), chunks);
    case.check(run());
}

/// Greedy tokens.
pub fn check_generation(model: &str, prompt: &str, stage: Stage) {
    let fixture = Fixture::load(MODELS);
    let case = fixture.case(&format!("greedy/{model}/{prompt}"));
    let (prompt, max_tokens) = (case.array("prompt"), case.i32("max_tokens") as usize);
    let generation =
        load(model, Dtype::Float32, stage).and_then(|model| answer(&model, prompt.as_slice::<u32>(), max_tokens));
    let stop_reason = generation.as_ref().ok().map(|generation| generation.stop_reason.clone());
    case.check(generation.map(|generation| Array::from_slice(&generation.tokens, &[generation.tokens.len() as i32])));
    assert_eq!(stop_reason, Some(StopReason::MaxTokens));
}

/// Logits of the first tokens of the built-in model, beside those of week 1's on the same weights, dequantized.
#[allow(dead_code)] // day 2.2a alone uses it
pub fn check_first_real_logits(n_tokens: i32, stage: Stage) {
    let path = registry::resolve("smollm2-135m").unwrap_or_else(|error| panic!("the built-in model: {error}"));
    let checkpoint = Checkpoint::open(&path).unwrap_or_else(|error| panic!("{error}"));
    let logits_at = |stage: Stage| -> Result<Array> {
        let row = Fixture::load("real_smollm2").case("logits/english").array("ids").try_index(..n_tokens)?;
        let model = Qwen2Model::load_stage(&checkpoint, Dtype::Float32, stage)?;
        forward_in_chunks(&model, &mut new_cache(&model), &row.reshape(&[1, n_tokens])?, &[n_tokens])
    };
    let expected = logits_at(Stage::Cached).unwrap_or_else(|error| panic!("{error}"));
    let same_f32 = Tolerance { atol: 2e-3, rtol: 0.0 };
    check_close("logits of the built-in model's first tokens", logits_at(stage), &expected, same_f32);
}

/// The built-in model. Week 1's on the same weights, dequantized, is the yardstick: it was compared with transformers
/// there. What is left is the rounding of activations, 30 layers long: 0.005 in logits of about 20.
pub fn check_real_logits(stage: Stage) {
    const ROUNDED_ACTIVATIONS: Tolerance = Tolerance { atol: 0.03, rtol: 0.0 };
    let path = registry::resolve("smollm2-135m").unwrap_or_else(|error| panic!("the built-in model: {error}"));
    let checkpoint = Checkpoint::open(&path).unwrap_or_else(|error| panic!("{error}"));
    let fixture = Fixture::load("real_smollm2");
    let case = fixture.case("logits/english");
    let ids = case.array("ids");
    let len = ids.dim(0);
    let logits_at = |stage: Stage, chunks: &[i32]| -> Result<Array> {
        let model = Qwen2Model::load_stage(&checkpoint, Dtype::Float32, stage)?;
        let row = ids.reshape(&[1, len])?;
        Ok(forward_in_chunks(&model, &mut new_cache(&model), &row, chunks)?.try_index(0)?)
    };
    let both = logits_at(Stage::Cached, &[len]).and_then(|expected| Ok((expected, logits_at(stage, &[len - 1, 1])?)));
    let (expected, logits) = both.unwrap_or_else(|error| panic!("{error}"));
    let clear = case.i32s("clear"); // where the best token is far ahead of the second
    let clear = Array::from_slice(&clear, &[clear.len() as i32]);
    case.check_named("argmax", argmax_axis(&logits, 1, false).and_then(|best| best.take_axis(clear, 0)));
    check_close("logits of the built-in model", Ok::<_, Error>(logits), &expected, ROUNDED_ACTIVATIONS);
}
