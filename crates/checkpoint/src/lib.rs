//! What the course does not teach: getting a model's files into the engine.
//!
//! [`Checkpoint::open`] reads a Hugging Face folder (safetensors, one file or many, plain or MLX-quantized) or a GGUF file
//! and gives out the same things for each: a validated [`Config`], tensors as MLX arrays under Hugging Face names, a
//! [`Tokenizer`] and a [`ChatTemplate`]. [`registry::resolve`] turns the name of a model into the path to open.
//!
//! Reading order: [`checkpoint`](Checkpoint), `config`, `architecture` (which tensors there must be); then one source of weights,
//! `hf_weights` over `shards` over `safetensors_file`, or `gguf`; then `tokenizer`, `decode_stream`, `chat_template`; `mlx_folder`
//! writes.
//!
//! Invariant: no file makes this crate panic, loop, or allocate more than a small multiple of its size. Chat templates and
//! tokenizers are programs, so they run within bounds of time, stack and memory; the last only in a program which has
//! [`BoundedAllocator`] as its allocator. `tests/fuzz.rs` tries all of it with damaged files of every kind. What stands in a
//! file reaches a person only through [`untrusted`].

mod architecture;
mod array;
mod bounded;
mod chat_template;
mod checkpoint;
mod config;
mod decode_stream;
mod error;
mod files;
mod gguf;
mod hf_config;
mod hf_text;
mod hf_weights;
mod host_tensor;
mod json;
mod memory;
mod mlx_folder;
mod mlx_quantization;
pub mod output;
mod python_text;
pub mod registry;
mod safetensors_file;
mod shards;
mod summary;
mod template_source;
mod token_decoder;
mod tokenizer;
pub mod untrusted;

pub use bounded::BoundedAllocator;
pub use chat_template::{ChatTemplate, Message};
pub use checkpoint::{Checkpoint, QuantizedTensor};
pub use config::Config;
pub use decode_stream::DecodeStream;
pub use error::{Error, Result};
pub use summary::Summary;
pub use tokenizer::Tokenizer;
