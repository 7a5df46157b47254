//! Small operations that run as one, so that MLX's cost per operation and the trips to memory between them vanish.
//!
//! One token of a small model takes more than two thousand operations of MLX, about 80 in each layer, each a few
//! microseconds of MLX's time whatever it computes. Here a layer is four besides attention and the cache, and from day 2.4 on,
//! with flash attention and a full cache, it is one: each takes what the plain layers take and computes what they compute.
//!
//! | operation | the plain layers that it replaces |
//! |---|---|
//! | [`norm_qkv_rope`](qkv::norm_qkv_rope) | RMSNorm, three projections, their biases, heads, rotary embedding |
//! | [`linear_add`](linear_add::linear_add) | merging heads, a projection, the residual addition (attention's and the MLP's) |
//! | [`norm_swiglu`](swiglu::norm_swiglu) | RMSNorm, gate and up projections, SiLU and product |
//! | [`layer`] | all of these, the cache and flash attention |

pub mod block;
pub mod gpu;
pub mod layer;
pub mod linear_add;
pub mod qkv;
pub mod rms_norm;
pub mod swiglu;

pub use block::FusedBlock;
pub use linear_add::linear_add;
pub use qkv::{QkvWeights, norm_qkv_rope};
pub use swiglu::norm_swiglu;
