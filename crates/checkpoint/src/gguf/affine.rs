//! GGUF's simplest blocks are MLX's affine format in another order: 32 integers, a scale, and (explicitly or not) a bias.
//!
//! So a kernel for the one computes with the weights of the other, without a second rounding:
//!
//! | block | integer | scale | bias | bits |
//! |---|---|---|---|---|
//! | Q4_0 | `q` | `d` | `-8 d` | 4 |
//! | Q4_1 | `q` | `d` | `m` | 4 |
//! | Q8_0 | `q + 128` | `d` | `-128 d` | 8 |
//!
//! Multiplying an f16 by a power of two is exact, except where it overflows; then there is no such form.

use half::f16;
use rayon::prelude::*;

use crate::gguf::blocks::BlockType;
use crate::host_tensor::{Data, ElementType, HostTensor};
use crate::mlx_quantization::{PackedTensor, QuantizationParams};

/// The weights of a block, and of a group.
const GROUP_SIZE: usize = 32;

/// The matrix `[rows, columns]` in MLX's format, or `None` if `block_type` has no exact equal there.
///
/// `bytes` are whole blocks, as many as the shape asks for; `source_row` says where the file keeps a row.
pub(super) fn repack(
    block_type: BlockType,
    bytes: &[u8],
    [rows, columns]: [usize; 2],
    source_row: impl Fn(usize) -> usize + Sync,
) -> Option<PackedTensor<'static>> {
    let bits = match block_type {
        BlockType::Q4_0 | BlockType::Q4_1 => 4,
        BlockType::Q8_0 => 8,
        _ => return None,
    };
    let block_bytes = block_type.block_bytes();
    let groups = columns / GROUP_SIZE;
    let (row_bytes, packed_bytes) = (groups * block_bytes, columns * bits / 8);
    let mut packed = vec![0u8; rows * packed_bytes];
    let mut scales = vec![0u8; rows * groups * 2];
    let mut biases = vec![0u8; rows * groups * 2];
    let all_exact = (packed.par_chunks_exact_mut(packed_bytes))
        .zip(scales.par_chunks_exact_mut(groups * 2))
        .zip(biases.par_chunks_exact_mut(groups * 2))
        .enumerate()
        .map(|(row, ((packed, scales), biases))| {
            let start = source_row(row) * row_bytes;
            let blocks = bytes[start..start + row_bytes].chunks_exact(block_bytes);
            let parts = packed.chunks_exact_mut(GROUP_SIZE * bits / 8);
            let parts = parts.zip(scales.chunks_exact_mut(2).zip(biases.chunks_exact_mut(2)));
            let mut all_exact = true;
            for (block, (packed, (scale, bias))) in blocks.zip(parts) {
                let d = f16::from_le_bytes([block[0], block[1]]);
                let (m, integers) = match block_type {
                    BlockType::Q4_1 => (f16::from_le_bytes([block[2], block[3]]), &block[4..]),
                    BlockType::Q4_0 => (f16::from_f32(-8.0 * d.to_f32()), &block[2..]),
                    _ => (f16::from_f32(-128.0 * d.to_f32()), &block[2..]),
                };
                all_exact &= m.is_finite() || !d.is_finite();
                scale.copy_from_slice(&d.to_le_bytes());
                bias.copy_from_slice(&m.to_le_bytes());
                if bits == 4 { repack_nibbles(integers, packed) } else { repack_bytes(integers, packed) }
            }
            all_exact
        })
        .reduce(|| true, |a, b| a && b);
    let tensor = |element: ElementType, width: usize, data: Vec<u8>| HostTensor {
        element,
        shape: vec![rows, width],
        data: Data::Reordered(data),
    };
    all_exact.then(|| PackedTensor {
        params: QuantizationParams { group_size: GROUP_SIZE, bits },
        packed: tensor(ElementType::U32, columns * bits / 32, packed),
        scales: tensor(ElementType::F16, groups, scales),
        biases: tensor(ElementType::F16, groups, biases),
    })
}

/// GGUF keeps weight `i` and weight `i + 16` in one byte, MLX weight `2i` and weight `2i + 1`.
fn repack_nibbles(integers: &[u8], packed: &mut [u8]) {
    for (half, packed) in packed.chunks_exact_mut(8).enumerate() {
        for (byte, pair) in packed.iter_mut().zip(integers.chunks_exact(2)) {
            let [even, odd] = [pair[0], pair[1]].map(|byte| (byte >> (4 * half)) & 0xF);
            *byte = even | (odd << 4);
        }
    }
}

/// Signed to unsigned.
fn repack_bytes(integers: &[u8], packed: &mut [u8]) {
    for (byte, &integer) in packed.iter_mut().zip(integers) {
        *byte = integer ^ 0x80;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gguf::blocks;

    /// Blocks of arbitrary bytes with finite scales.
    fn blocks_of(block_type: BlockType, n_blocks: usize) -> Vec<u8> {
        let scale_bytes = if block_type == BlockType::Q4_1 { 4 } else { 2 };
        let mut state = 0x9E37_79B9_u32;
        let mut bytes = Vec::new();
        for _ in 0..n_blocks {
            for at in 0..block_type.block_bytes() {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let byte = (state >> 24) as u8;
                // The upper byte of an f16 between 2^-11 and 2^-3, of either sign.
                bytes.push(if at < scale_bytes && at % 2 == 1 { 0x10 | (byte & 0x9F) } else { byte });
            }
        }
        bytes
    }

    #[test]
    fn repacked_weights_dequantize_to_the_same_numbers() {
        for block_type in [BlockType::Q4_0, BlockType::Q4_1, BlockType::Q8_0] {
            let (rows, columns) = (6, 96);
            let bytes = blocks_of(block_type, rows * columns / 32);
            let expected = blocks::dequantize(block_type, &bytes);
            let packed = repack(block_type, &bytes, [rows, columns], |row| row).unwrap();
            let got = packed.dequantize();
            assert_eq!(got.shape, [rows, columns]);
            for (at, (got, expected)) in got.to_f32().iter().zip(&expected).enumerate() {
                // The integer times the scale plus the bias rounds twice, the block's own formula once or twice.
                assert!((got - expected).abs() <= 1e-5, "{block_type:?} at {at}: {got}, not {expected}");
            }
        }
    }

    #[test]
    fn rows_are_taken_from_where_the_file_keeps_them() {
        let bytes = blocks_of(BlockType::Q4_1, 4);
        let straight = repack(BlockType::Q4_1, &bytes, [4, 32], |row| row).unwrap().dequantize().to_f32();
        let reversed = repack(BlockType::Q4_1, &bytes, [4, 32], |row| 3 - row).unwrap().dequantize().to_f32();
        for row in 0..4 {
            assert_eq!(straight[row * 32..row * 32 + 32], reversed[(3 - row) * 32..(3 - row) * 32 + 32]);
        }
    }

    #[test]
    fn a_bias_beyond_f16_and_other_blocks_have_no_such_form() {
        let mut bytes = blocks_of(BlockType::Q8_0, 1);
        bytes[..2].copy_from_slice(&f16::from_f32(600.0).to_le_bytes());
        assert!(repack(BlockType::Q8_0, &bytes, [1, 32], |row| row).is_none());
        let bytes = blocks_of(BlockType::Q5_0, 1);
        assert!(repack(BlockType::Q5_0, &bytes, [1, 32], |row| row).is_none());
    }
}
