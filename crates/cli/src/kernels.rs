//! Compiles a model's kernels before the first token needs them.

use std::panic::{self, AssertUnwindSafe};

use mlx_custom::gpu::compile_ahead;
use mlx_rs::Array;

use crate::engine::{LanguageModel, LogitsToKeep, Result};

/// Prompts of which each needs other kernels: a question, some sentences, a text.
const PROMPT_LENGTHS: [usize; 3] = [24, 48, 512];

/// Compiles all kernels of prompts and of the tokens behind them, several at a time. `announce` is told how many were never compiled
/// for this GPU, unless there are none.
///
/// An engine that isn't finished stops at its first `todo!`, or returns an error. That is not for loading to report: the first
/// token will.
pub fn compile(model: &dyn LanguageModel, announce: impl FnOnce(usize)) {
    compile_ahead(|| PROMPT_LENGTHS.map(|length| is_built(model, length)), announce);
}

fn is_built(model: &dyn LanguageModel, prompt_length: usize) -> bool {
    panic::catch_unwind(AssertUnwindSafe(|| build(model, prompt_length))).is_ok_and(|outcome| outcome.is_ok())
}

/// Adds a prompt and one more token to MLX's graph, and drops both: nothing is computed.
fn build(model: &dyn LanguageModel, prompt_length: usize) -> Result<()> {
    let mut cache = model.new_cache();
    for length in [prompt_length.min(model.max_positions().saturating_sub(1)), 1] {
        let tokens = Array::from_slice(&vec![0_u32; length], &[1, length as i32]);
        model.forward(&tokens, cache.as_deref_mut(), LogitsToKeep::Last(1))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    /// Remembers what it was asked, and stops at one of the lengths.
    struct Scripted {
        lengths: RefCell<Vec<i32>>,
        stops_at: i32,
    }

    impl LanguageModel for Scripted {
        fn forward(
            &self,
            tokens: &Array,
            _: Option<&mut [Box<dyn crate::engine::KvCache>]>,
            _: LogitsToKeep,
        ) -> Result<Array> {
            let length = tokens.dim(1);
            self.lengths.borrow_mut().push(length);
            // As `todo!`, without the message.
            if length == self.stops_at {
                panic::resume_unwind(Box::new("not yet implemented"));
            }
            Ok(tokens.clone())
        }

        fn max_positions(&self) -> usize {
            100
        }

        fn vocab_size(&self) -> usize {
            1
        }
    }

    #[test]
    fn prompts_and_a_token_behind_each_are_built() {
        let model = Scripted { lengths: RefCell::default(), stops_at: 0 };
        compile(&model, |_| unreachable!());
        assert_eq!(model.lengths.into_inner(), [24, 1, 48, 1, 99, 1], "and no position is beyond the model's");
    }

    #[test]
    fn what_is_not_finished_stops_nothing() {
        let model = Scripted { lengths: RefCell::default(), stops_at: 48 };
        compile(&model, |_| unreachable!());
        assert_eq!(model.lengths.into_inner(), [24, 1, 48, 99, 1]);
    }
}
