//! A model and a decoder that do what a test tells them, and remember what they were asked.
#![allow(dead_code)] // no day uses all of it

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::thread::sleep;
use std::time::Duration;

use mlx_custom::{CpuOperation, OperationError, Tensor, TensorMut, TensorType, apply_n};
use mlx_rs::ops::indexing::argmax_axis;
use mlx_rs::{Array, Dtype};
use tiny_llm::{Error, KvCache, LanguageModel, LogitFilter, LogitsToKeep, Offset, Result, TextDecoder};

/// A call of the model.
#[derive(Clone, Debug)]
pub struct Call {
    pub tokens: Vec<u32>,
    pub has_cache: bool,
    pub keep: LogitsToKeep,
}

/// A model that answers each position after the prompt with the next token of its script.
///
/// At every other position it predicts [`ScriptedModel::TRAP`]: whoever looks at the wrong position, or shows the
/// model less than the whole sequence, generates traps.
pub struct ScriptedModel {
    prompt_len: usize,
    script: Vec<u32>,
    max_positions: usize,
    is_cached: bool,
    dtype: Dtype,
    pause_at_prompt: Duration,
    pause_at_step: Duration,
    calls: RefCell<Vec<Call>>,
    /// What a cache would remember.
    n_seen: Cell<usize>,
    n_caches: Cell<usize>,
}

impl ScriptedModel {
    pub const VOCAB: i32 = 32;
    /// What comes out at positions that nobody should look at.
    pub const TRAP: u32 = 13;
    /// In a script: logits of NaN.
    pub const NAN: u32 = u32::MAX;
    /// In a script: the model fails.
    pub const ERROR: u32 = u32::MAX - 1;

    pub fn answering(prompt_len: usize, script: &[u32]) -> Self {
        Self {
            prompt_len,
            script: script.to_vec(),
            max_positions: 64,
            is_cached: false,
            dtype: Dtype::Float32,
            pause_at_prompt: Duration::ZERO,
            pause_at_step: Duration::ZERO,
            calls: RefCell::default(),
            n_seen: Cell::default(),
            n_caches: Cell::default(),
        }
    }

    /// With a cache: a call brings only tokens that the model has not seen.
    pub fn cached(self) -> Self {
        Self { is_cached: true, ..self }
    }

    pub fn in_dtype(self, dtype: Dtype) -> Self {
        Self { dtype, ..self }
    }

    pub fn with_positions(self, max_positions: usize) -> Self {
        Self { max_positions, ..self }
    }

    /// The logits of the first call take this long to compute, and those of each later one this long. As MLX's own
    /// operations they are lazy: the call returns at once.
    pub fn lazily_taking(self, pause_at_prompt: Duration, pause_at_step: Duration) -> Self {
        Self { pause_at_prompt, pause_at_step, ..self }
    }

    /// The same model, which was not asked anything yet.
    pub fn fresh(&self) -> Self {
        Self {
            script: self.script.clone(),
            calls: RefCell::default(),
            n_seen: Cell::default(),
            n_caches: Cell::default(),
            ..*self
        }
    }

    pub fn calls(&self) -> Vec<Call> {
        self.calls.borrow().clone()
    }

    pub fn n_caches(&self) -> usize {
        self.n_caches.get()
    }

    /// The token after a sequence of `len` tokens.
    fn answer(&self, len: usize) -> u32 {
        let at = len.checked_sub(self.prompt_len);
        at.and_then(|at| self.script.get(at)).copied().unwrap_or(Self::TRAP)
    }
}

impl LanguageModel for ScriptedModel {
    fn forward(&self, token_ids: &Array, cache: Option<&mut [Box<dyn KvCache>]>, keep: LogitsToKeep) -> Result<Array> {
        let &[1, len] = token_ids.shape() else {
            return Err(refuse(format!("token ids of shape {:?}, not [1, L]", token_ids.shape())));
        };
        if token_ids.dtype() != Dtype::Uint32 {
            return Err(refuse(format!("token ids of dtype {:?}, not u32", token_ids.dtype())));
        }
        let is_first = self.calls.borrow().is_empty();
        let tokens = token_ids.as_slice::<u32>().to_vec();
        self.calls.borrow_mut().push(Call { tokens, has_cache: cache.is_some(), keep });
        let pause = if is_first { self.pause_at_prompt } else { self.pause_at_step };

        let n_before = if cache.is_some() { self.n_seen.get() } else { 0 };
        let n_seen = n_before + len as usize;
        self.n_seen.set(n_seen);
        if n_seen > self.max_positions {
            return Err(refuse(format!("{n_seen} tokens for {} positions", self.max_positions)));
        }
        let answer = self.answer(n_seen);
        if answer == Self::ERROR {
            return Err(refuse("scripted failure".to_owned()));
        }
        let n_kept = match keep {
            LogitsToKeep::All => len,
            LogitsToKeep::Last(n) => n,
        };
        let logits = (0..n_kept).flat_map(|position| {
            let best = if position + 1 == n_kept { answer } else { Self::TRAP };
            (0..Self::VOCAB as u32).map(move |token| match best {
                Self::NAN => f32::NAN,
                // All distinct, so that the order of the others is defined as well.
                _ => -(token as f32) * 0.25 + if token == best { 20.0 } else { 0.0 },
            })
        });
        let logits = Array::from_iter(logits, &[1, n_kept, Self::VOCAB]).as_dtype(self.dtype)?;
        if pause.is_zero() {
            return Ok(logits);
        }
        let [logits] = apply_n(Late(pause), &[&logits])?;
        Ok(logits)
    }

    fn max_positions(&self) -> usize {
        self.max_positions
    }

    fn vocab_size(&self) -> usize {
        Self::VOCAB as usize
    }

    fn new_cache(&self) -> Option<Vec<Box<dyn KvCache>>> {
        self.n_caches.set(self.n_caches.get() + 1);
        self.is_cached.then(|| vec![Box::new(UnusedCache) as Box<dyn KvCache>])
    }
}

/// The same array (f32), after a while, once somebody asks for its values.
struct Late(Duration);

impl CpuOperation for Late {
    fn name(&self) -> &'static str {
        "late"
    }

    fn outputs(&self, inputs: &[TensorType]) -> std::result::Result<Vec<TensorType>, OperationError> {
        Ok(inputs.to_vec())
    }

    fn run(&self, inputs: &[Tensor<'_>], outputs: &mut [TensorMut<'_>]) -> std::result::Result<(), OperationError> {
        sleep(self.0);
        outputs[0].as_mut_slice::<f32>()?.copy_from_slice(inputs[0].as_slice::<f32>()?);
        Ok(())
    }
}

/// The scripted model counts tokens itself; its cache is only passed around.
struct UnusedCache;

impl KvCache for UnusedCache {
    fn update_and_fetch(&mut self, keys: &Array, values: &Array) -> Result<(Array, Array)> {
        Ok((keys.clone(), values.clone()))
    }

    fn offset(&self) -> Offset<'_> {
        Offset::Same(0)
    }

    fn rewind(&mut self, _n_tokens: usize) -> Result<()> {
        Ok(())
    }

    fn reset(&mut self) {}
}

/// A filter that changes nothing, and remembers the histories that it was shown.
#[derive(Clone, Default)]
pub struct HistoryRecorder(Rc<RefCell<Vec<Vec<Vec<u32>>>>>);

impl HistoryRecorder {
    /// One entry for each step: its rows.
    pub fn histories(&self) -> Vec<Vec<Vec<u32>>> {
        self.0.borrow().clone()
    }
}

impl LogitFilter for HistoryRecorder {
    fn apply(&self, logits: &Array, history: &[Vec<u32>]) -> Result<Array> {
        self.0.borrow_mut().push(history.to_vec());
        Ok(logits.clone())
    }

    fn only_looks(&self) -> bool {
        true
    }
}

/// Turns token i into the bytes of `texts[i]`, and hands out whole characters only.
pub struct BytesDecoder {
    texts: Vec<Vec<u8>>,
    pending: Vec<u8>,
    finish_fails: bool,
}

impl BytesDecoder {
    /// A token that the decoder refuses.
    pub const UNKNOWN: u32 = 30;

    pub fn new(texts: &[&[u8]]) -> Self {
        Self { texts: texts.iter().map(|text| text.to_vec()).collect(), pending: Vec::new(), finish_fails: false }
    }

    /// Cannot decode what is left when no more tokens come.
    pub fn failing_at_the_end(self) -> Self {
        Self { finish_fails: true, ..self }
    }
}

impl TextDecoder for BytesDecoder {
    fn push(&mut self, token: u32) -> Result<String> {
        let text = self.texts.get(token as usize);
        let text = text.ok_or_else(|| refuse(format!("the scripted decoder does not know token {token}")))?;
        self.pending.extend(text);
        let complete = match std::str::from_utf8(&self.pending) {
            Ok(text) => text.len(),
            Err(error) => error.valid_up_to(),
        };
        let rest = self.pending.split_off(complete);
        let text = std::mem::replace(&mut self.pending, rest);
        Ok(String::from_utf8_lossy(&text).into_owned())
    }

    fn finish(&mut self) -> Result<String> {
        if self.finish_fails {
            return Err(refuse("the scripted decoder cannot finish".to_owned()));
        }
        Ok(String::from_utf8_lossy(&std::mem::take(&mut self.pending)).into_owned())
    }
}

/// The most likely token of the only row of `logits` (`[1, V]`).
pub fn most_likely(logits: &Array) -> u32 {
    argmax_axis(logits, -1, false).unwrap_or_else(|error| panic!("{error}")).item_cast::<u32>()
}

fn refuse(message: String) -> Error {
    Error::InvalidArgument { operation: "ScriptedModel", message }
}
