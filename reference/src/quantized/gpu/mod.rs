//! Quantized matrices on a GPU: the day's kernels, and the choice among them.
//!
//! A kernel is a `.metal` file in `src/kernels`. The module of the same name starts it: so many threads, in
//! threadgroups of such a size, with these constants.
//!
//! | module | kernel | for |
//! |---|---|---|
//! | [`dequantize`] | one thread a word | the matrix as floats |
//! | [`plain`] | one thread an output | the readable oracle |
//! | [`matvec`] | a SIMD group shares rows of weights | few tokens: reading weights is the work |
//! | [`matvec_tiles`] | tiles of weights in registers, matrix units | the same with 4 bits, up to 8 tokens at a time |
//! | [`tiled`] | tiles in threadgroup memory, matrix units | many tokens: multiplying is the work |
//! | [`dispatch`] | - | which of them, by shape |
//! | [`embedding`] | one threadgroup a token | looking up vectors |

pub mod dequantize;
pub mod dispatch;
pub mod embedding;
pub mod matvec;
pub mod matvec_tiles;
pub mod operands;
pub mod plain;
pub mod tiled;

pub use dequantize::dequantize_gpu;
pub use dispatch::{
    GpuMatmul, quantized_matmul_gpu, quantized_matmul_gpu_on, quantized_matmul_gpu_with, quantized_swiglu_gpu,
};
pub use embedding::quantized_embedding_gpu;

// [reference only] what can be said about Metal without Apple's compiler
#[cfg(test)]
mod tests {
    use mlx_custom::gpu::check_metal;

    use super::{dequantize, embedding, matvec, matvec_tiles, plain, tiled};

    #[test]
    fn kernels_keep_to_metal() {
        let kernels = [
            &dequantize::DEQUANTIZE,
            &plain::PLAIN,
            &matvec::MATVEC,
            &matvec_tiles::MATVEC_TILES,
            &tiled::TILED,
            &embedding::EMBEDDING,
        ];
        for kernel in kernels {
            assert_eq!(check_metal(kernel, &["T", "O"]), [], "{}", kernel.name);
        }
    }
}
// [end]
