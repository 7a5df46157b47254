//! How GGUF stores elements, and how blocks become f32.
//!
//! A quantized row is cut into blocks; each block is dequantized on its own. All arithmetic is f32 in the order that
//! ggml's reference code uses, so the values agree bit for bit. Source: `ggml-common.h` (layout) and `ggml-quants.c`.

use rayon::prelude::*;

use crate::gguf::k_blocks;

/// The element types that can be read. Numbers as in ggml's `enum ggml_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(non_camel_case_types)] // the names by which everybody knows these formats
pub(crate) enum BlockType {
    F32,
    F16,
    BF16,
    Q4_0,
    Q4_1,
    Q5_0,
    Q8_0,
    Q4_K,
    Q6_K,
}

impl BlockType {
    pub(crate) fn from_number(number: u32) -> Result<Self, String> {
        Ok(match number {
            0 => Self::F32,
            1 => Self::F16,
            2 => Self::Q4_0,
            3 => Self::Q4_1,
            6 => Self::Q5_0,
            8 => Self::Q8_0,
            12 => Self::Q4_K,
            14 => Self::Q6_K,
            30 => Self::BF16,
            other => {
                return Err(format!(
                    "has ggml type {other}, which is not supported; F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q8_0, Q4_K and Q6_K are"
                ));
            }
        })
    }

    /// Elements in one block.
    pub(crate) fn block_len(self) -> usize {
        match self {
            Self::F32 | Self::F16 | Self::BF16 => 1,
            Self::Q4_0 | Self::Q4_1 | Self::Q5_0 | Self::Q8_0 => 32,
            Self::Q4_K | Self::Q6_K => k_blocks::BLOCK_LEN,
        }
    }

    /// Bytes of one block.
    pub(crate) fn block_bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::BF16 => 2,
            Self::Q4_0 => 2 + 16,
            Self::Q4_1 => 2 + 2 + 16,
            Self::Q5_0 => 2 + 4 + 16,
            Self::Q8_0 => 2 + 32,
            Self::Q4_K => k_blocks::Q4_K_BYTES,
            Self::Q6_K => k_blocks::Q6_K_BYTES,
        }
    }
}

/// The f32 values of whole quantized blocks. Bytes after the last whole block are ignored; the header's checks leave none.
pub(crate) fn dequantize(block_type: BlockType, bytes: &[u8]) -> Vec<f32> {
    let (len, size) = (block_type.block_len(), block_type.block_bytes());
    let mut values = vec![0.0; bytes.len() / size * len];
    let blocks = bytes.par_chunks_exact(size).zip(values.par_chunks_exact_mut(len));
    blocks.with_min_len(BLOCKS_PER_TASK).for_each(|(block, out)| dequantize_block(block_type, block, out));
    values
}

/// Enough work for a thread to be worth waking.
const BLOCKS_PER_TASK: usize = 1024;

fn dequantize_block(block_type: BlockType, block: &[u8], out: &mut [f32]) {
    match block_type {
        BlockType::F32 => out[0] = f32::from_le_bytes([block[0], block[1], block[2], block[3]]),
        BlockType::F16 => out[0] = f16_at(block, 0),
        BlockType::BF16 => out[0] = half::bf16::from_le_bytes([block[0], block[1]]).to_f32(),
        BlockType::Q4_0 => {
            let d = f16_at(block, 0);
            nibbles(&block[2..], out, |_, q| (i32::from(q) - 8) as f32 * d);
        }
        BlockType::Q4_1 => {
            let (d, m) = (f16_at(block, 0), f16_at(block, 2));
            nibbles(&block[4..], out, |_, q| f32::from(q) * d + m);
        }
        BlockType::Q5_0 => {
            let d = f16_at(block, 0);
            let fifth_bits = u32::from_le_bytes([block[2], block[3], block[4], block[5]]);
            nibbles(&block[6..], out, |i, q| {
                let q = i32::from(q) | ((fifth_bits >> i & 1) << 4) as i32;
                (q - 16) as f32 * d
            });
        }
        BlockType::Q8_0 => {
            let d = f16_at(block, 0);
            for (value, &q) in out.iter_mut().zip(&block[2..]) {
                *value = f32::from(q as i8) * d;
            }
        }
        BlockType::Q4_K => k_blocks::dequantize_q4_k(block, out),
        BlockType::Q6_K => k_blocks::dequantize_q6_k(block, out),
    }
}

pub(crate) fn f16_at(bytes: &[u8], index: usize) -> f32 {
    half::f16::from_le_bytes([bytes[index], bytes[index + 1]]).to_f32()
}

/// Sixteen bytes hold 32 integers: the low nibbles are the first half of the block, the high nibbles the second.
fn nibbles(packed: &[u8], out: &mut [f32], value: impl Fn(usize, u8) -> f32) {
    let (first, second) = out.split_at_mut(16);
    for (i, (&byte, (low, high))) in packed.iter().zip(first.iter_mut().zip(second)).enumerate() {
        *low = value(i, byte & 0x0f);
        *high = value(i + 16, byte >> 4);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Random blocks and what the `gguf` package makes of them.
    #[test]
    fn every_type_dequantizes_exactly_as_the_gguf_package_does() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/gguf_blocks.safetensors");
        let file = std::fs::read(path).unwrap();
        let tensors = safetensors::SafeTensors::deserialize(&file).unwrap();
        let numbers = [0, 1, 2, 3, 6, 8, 12, 14, 30];
        assert_eq!(tensors.len(), 2 * numbers.len());
        for block_type in numbers.map(|number| BlockType::from_number(number).unwrap()) {
            let part = |part: &str| tensors.tensor(&format!("{block_type:?}/{part}")).unwrap();
            let expected: Vec<u8> = part("values").data().to_vec();
            let values = dequantize(block_type, part("bytes").data());
            let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            assert!(values.len() >= 64);
            assert!(bytes == expected, "{block_type:?} differs");
        }
    }

    #[test]
    fn other_types_are_refused_by_number() {
        for number in [4, 5, 7, 9, 10, 11, 13, 15, 16, 29, 31, u32::MAX] {
            assert!(BlockType::from_number(number).unwrap_err().contains(&format!("type {number},")));
        }
    }
}
