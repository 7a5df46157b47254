//! The simplest cache: everything so far, concatenated anew for each token. The oracle beside the fast ones.
#![allow(dead_code)] // no day uses all of it

use mlx_rs::Array;
use mlx_rs::ops::concatenate;
use mlx_rs::ops::indexing::TryIndexOp;
use tiny_llm::{Error, KvCache, Offset, Result};

#[derive(Default)]
pub struct ConcatenatingCache {
    stored: Option<(Array, Array)>,
}

impl ConcatenatingCache {
    fn len(&self) -> i32 {
        self.stored.as_ref().map_or(0, |(keys, _)| keys.dim(2))
    }
}

impl KvCache for ConcatenatingCache {
    fn update_and_fetch(&mut self, keys: &Array, values: &Array) -> Result<(Array, Array)> {
        let all = match &self.stored {
            Some((k, v)) => (concatenate(&[k, keys], 2)?, concatenate(&[v, values], 2)?),
            None => (keys.clone(), values.clone()),
        };
        self.stored = Some(all.clone());
        Ok(all)
    }

    fn offset(&self) -> Offset<'_> {
        Offset::Same(self.len())
    }

    fn rewind(&mut self, n_tokens: usize) -> Result<()> {
        let len = self.len() - n_tokens as i32;
        if len < 0 {
            let message = format!("{n_tokens} tokens of {}", self.len());
            return Err(Error::InvalidArgument { operation: "ConcatenatingCache::rewind", message });
        }
        if let Some((keys, values)) = self.stored.take() {
            let kept = (.., .., ..len);
            self.stored = Some((keys.try_index(kept)?, values.try_index(kept)?));
        }
        Ok(())
    }

    fn reset(&mut self) {
        self.stored = None;
    }
}

/// One for each layer.
pub fn concatenating_caches(n_layers: usize) -> Vec<Box<dyn KvCache>> {
    (0..n_layers).map(|_| Box::new(ConcatenatingCache::default()) as Box<dyn KvCache>).collect()
}
