//! tiny-llm: the crate that you write in this course.
//!
//! Every `todo!(..)` names the day, the task and the page of the book that tells you what belongs
//! there. Write between the two comments around it and leave those where they are: they are how
//! `cargo xtask hint`, `diff`, `solve` and `reset` find your code. Everything else is given, and
//! may be changed; add helper functions and files as you like.
//!
//! `cargo xtask check 1.1` grades a day, `cargo xtask check 1.1.2` one task of it.
//!
//! The modules, in the order in which the course builds them:
//!
//! | day | modules |
//! |---|---|
//! | 1.1 Attention | [`attention`], [`linear`] |
//! | 1.2 RoPE | [`rope`] |
//! | 1.3 Grouped-query attention | [`grouped_attention`], [`qwen2_attention`] |
//! | 1.4 RMSNorm and MLP | [`norm`], [`mlp`] |
//! | 1.5 Load the model | [`embedding`], [`qwen2`] |
//! | 1.6 Generate responses | [`generate`], [`stop_strings`] |
//! | 1.7 Sampling | [`sampler`], [`filters`] |
//! | 2.1 KV cache | [`kv_cache`], [`kv_append`], [`full_kv_cache`] |
//! | 2.2a Packed weights | [`quantized`], [`projection`], [`qwen2_quantized`] |
//! | 2.2b Fast kernels on the CPU | [`quantized`] |
//! | 2.2c Fused operations | [`fused`] |
//! | 2.3 Quantized matmul, GPU | [`quantized::gpu`], [`device`] |
//! | 2.4 FlashAttention-2, CPU | [`flash_attention`] |
//! | 2.5 FlashAttention-2, GPU | [`flash_attention::gpu`], [`fused::gpu`], [`gpu_kv_cache`], [`qwen2_gpu`] |
//!
//! Array shapes stand beside the code as `[B, H, L, D]`; the letters are explained in the book's glossary.
//! Arrays are lazy: a function returns a description of the computation, and MLX runs it when a value is needed.

// Half-written code should compile quietly. Remove this line when you are done.
#![allow(dead_code, unreachable_code, unused_imports, unused_mut, unused_variables)]

mod ahead;
pub mod attention;
pub mod attention_backend;
pub mod device;
pub mod embedding;
pub mod error;
pub mod filters;
pub mod flash_attention;
pub mod full_kv_cache;
pub mod fused;
pub mod generate;
pub mod gpu_kv_cache;
pub mod grouped_attention;
pub mod kv_append;
pub mod kv_cache;
pub mod language_model;
pub mod linear;
pub mod mlp;
mod most_likely;
pub mod norm;
pub mod projection;
pub mod quantized;
pub mod qwen2;
pub mod qwen2_attention;
pub mod qwen2_gpu;
pub mod qwen2_quantized;
pub mod rope;
pub mod sampler;
pub mod stage;
pub mod stop_strings;

pub use attention::{MultiHeadAttention, scaled_dot_product_attention, softmax};
pub use attention_backend::AttentionBackend;
pub use device::Device;
pub use embedding::Embedding;
pub use error::{Error, Result};
pub use filters::{LogitFilter, MinP, RepetitionPenalty, Temperature, TopK, TopP};
pub use full_kv_cache::FullKvCache;
pub use generate::{
    GenerateOptions, Generation, StopReason, TextDecoder, Timings, generate, generate_text, next_token_logits,
};
pub use gpu_kv_cache::GpuKvCache;
pub use grouped_attention::{AttentionMask, causal_mask, scaled_dot_product_attention_grouped};
pub use kv_append::{KvAppend, KvBuffers};
pub use kv_cache::KvCache;
pub use language_model::{LanguageModel, LogitsToKeep};
pub use linear::{Linear, linear};
pub use mlp::{SwiGluMlp, silu};
pub use norm::RmsNorm;
pub use projection::Projection;
pub use quantized::{QuantizedEmbedding, QuantizedLinear, QuantizedMatrix, quantized_matmul};
pub use qwen2::{Layer, Qwen2Model, TokenEmbedding, TransformerBlock};
pub use qwen2_attention::Qwen2Attention;
pub use rope::{Offset, RotaryEmbedding, rotate_half_split, rotate_interleaved};
pub use sampler::{Sampler, SamplerOptions, greedy, sample_from_uniform};
pub use stage::Stage;
pub use stop_strings::{StopStringMatcher, StopStringOutcome};
