//! A model of the stage at which it has caches, and ways to run it.

use std::cell::Cell;
use std::ops::ControlFlow;
use std::rc::Rc;

use checkpoint::{Checkpoint, registry};
use mlx_rs::ops::concatenate;
use mlx_rs::ops::indexing::TryIndexOp;
use mlx_rs::{Array, Dtype};
use tiny_llm::{
    FullKvCache, GenerateOptions, Generation, KvCache, LanguageModel, LogitsToKeep, Offset, Qwen2Model, Result,
    Sampler, Stage, generate,
};

use crate::tiny_models;

pub fn load(name: &str, dtype: Dtype, stage: Stage) -> Result<Qwen2Model> {
    Qwen2Model::load_stage(&tiny_models::open(name), dtype, stage)
}

/// The built-in model; the first call downloads it.
pub fn real_model() -> Result<Qwen2Model> {
    let path = registry::resolve("smollm2-135m").unwrap_or_else(|error| panic!("the built-in model: {error}"));
    let checkpoint = Checkpoint::open(&path).unwrap_or_else(|error| panic!("{error}"));
    Qwen2Model::load_stage(&checkpoint, Dtype::Float32, Stage::Cached)
}

pub fn new_cache(model: &Qwen2Model) -> Vec<Box<dyn KvCache>> {
    model.new_cache().unwrap_or_else(|| panic!("a model of the stage `cached` has a cache"))
}

/// Logits of all positions of `ids` (`[B, L]`), given to the model in calls of these lengths.
pub fn forward_in_chunks(
    model: &Qwen2Model,
    cache: &mut [Box<dyn KvCache>],
    ids: &Array,
    chunks: &[i32],
) -> Result<Array> {
    let (mut from, mut logits) = (0, Vec::new());
    for len in chunks {
        let chunk = ids.try_index((.., from..from + len))?;
        logits.push(model.forward(&chunk, Some(&mut *cache), LogitsToKeep::All)?);
        from += len;
    }
    Ok(concatenate(&logits, 1)?)
}

/// Generates greedily.
pub fn answer(model: &Qwen2Model, prompt: &[u32], max_tokens: usize) -> Result<Generation> {
    let options = GenerateOptions { max_tokens, ..GenerateOptions::default() };
    generate(model, prompt, &mut Sampler::greedy(), &options, &mut |_| ControlFlow::Continue(()))
}

/// A full cache that adds the bytes it has copied to a sum when it is dropped.
struct CountingCache {
    cache: FullKvCache,
    bytes_copied: Rc<Cell<u64>>,
}

/// One for each layer, and the sum.
pub fn counting_caches(n_layers: usize) -> (Vec<Box<dyn KvCache>>, Rc<Cell<u64>>) {
    let bytes_copied = Rc::<Cell<u64>>::default();
    let cache = || CountingCache { cache: FullKvCache::new(), bytes_copied: Rc::clone(&bytes_copied) };
    ((0..n_layers).map(|_| Box::new(cache()) as Box<dyn KvCache>).collect(), bytes_copied)
}

impl Drop for CountingCache {
    fn drop(&mut self) {
        self.bytes_copied.set(self.bytes_copied.get() + self.cache.bytes_copied());
    }
}

impl KvCache for CountingCache {
    fn update_and_fetch(&mut self, keys: &Array, values: &Array) -> Result<(Array, Array)> {
        self.cache.update_and_fetch(keys, values)
    }

    fn offset(&self) -> Offset<'_> {
        self.cache.offset()
    }

    fn rewind(&mut self, n_tokens: usize) -> Result<()> {
        self.cache.rewind(n_tokens)
    }

    fn reset(&mut self) {
        self.cache.reset();
    }
}
