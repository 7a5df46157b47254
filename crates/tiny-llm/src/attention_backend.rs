//! The choice between implementations of the same attention.

use mlx_rs::Array;

use crate::flash_attention::flash_attention;
use crate::flash_attention::gpu::flash_attention_gpu;
use crate::{AttentionMask, Result, scaled_dot_product_attention_grouped};

/// How attention is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AttentionBackend {
    /// Scores, softmax, weighted sum, each as an array: day 1.3, and the oracle of the others.
    #[default]
    Plain,
    /// One pass over tiles: day 2.4.
    Flash,
    /// The same on a GPU, or in the emulator: day 2.5.
    FlashGpu,
}

impl AttentionBackend {
    /// Grouped attention as [`scaled_dot_product_attention_grouped`] with its usual scale: `[B, H_q, L, D]`.
    ///
    /// # Errors
    /// As [`scaled_dot_product_attention_grouped`].
    pub fn attend(self, query: &Array, key: &Array, value: &Array, mask: &AttentionMask) -> Result<Array> {
        match self {
            Self::Plain => scaled_dot_product_attention_grouped(query, key, value, None, mask),
            Self::Flash => flash_attention(query, key, value, None, mask),
            Self::FlashGpu => flash_attention_gpu(query, key, value, None, mask),
        }
    }
}
