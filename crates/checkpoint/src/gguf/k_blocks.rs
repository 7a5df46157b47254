//! The "K" formats: blocks of 256 elements, cut into sub-blocks with small integer scales of their own.

use crate::gguf::blocks::f16_at;

pub(crate) const BLOCK_LEN: usize = 256;
pub(crate) const Q4_K_BYTES: usize = 2 + 2 + 12 + 128;
pub(crate) const Q6_K_BYTES: usize = 128 + 64 + 16 + 2;

/// Q4_K: d, dmin (f16), 12 bytes with eight 6-bit scales and eight 6-bit minima, 128 bytes of nibbles.
/// `value = d * scale * q - dmin * min`, with one scale and min per 32 elements.
pub(crate) fn dequantize_q4_k(block: &[u8], out: &mut [f32]) {
    let (d, d_min) = (f16_at(block, 0), f16_at(block, 2));
    let (packed_scales, quants) = block[4..].split_at(12);
    for (pair, (bytes, out)) in quants.chunks_exact(32).zip(out.chunks_exact_mut(64)).enumerate() {
        // 32 bytes serve two sub-blocks: low nibbles the first, high nibbles the second.
        let (low, high) = out.split_at_mut(32);
        for (half, out) in [low, high].into_iter().enumerate() {
            let (scale, min) = q4_k_scale_and_min(packed_scales, 2 * pair + half);
            let (scale, min) = (d * f32::from(scale), d_min * f32::from(min));
            for (value, byte) in out.iter_mut().zip(bytes) {
                *value = scale * f32::from(byte >> (4 * half) & 0x0f) - min;
            }
        }
    }
}

/// The 6-bit scale and minimum of sub-block `i` of 8. The first four lie in the low six bits of bytes 0..8; the last four
/// have their low four bits in bytes 8..12 and their high two bits at the top of bytes 0..8.
fn q4_k_scale_and_min(packed: &[u8], i: usize) -> (u8, u8) {
    if i < 4 {
        (packed[i] & 0x3f, packed[i + 4] & 0x3f)
    } else {
        let low = packed[i + 4];
        (low & 0x0f | (packed[i - 4] >> 6) << 4, low >> 4 | (packed[i] >> 6) << 4)
    }
}

/// Q6_K: 128 bytes of low nibbles, 64 bytes of high bit pairs, sixteen i8 scales, d (f16).
/// `value = d * scale * (q - 32)`, with one scale per 16 elements.
pub(crate) fn dequantize_q6_k(block: &[u8], out: &mut [f32]) {
    let (low_bits, rest) = block.split_at(128);
    let (high_bits, rest) = rest.split_at(64);
    let (scales, d) = (&rest[..16], f16_at(rest, 16));
    for (half, out) in out.chunks_exact_mut(128).enumerate() {
        let (low_bits, high_bits) = (&low_bits[64 * half..], &high_bits[32 * half..]);
        for (i, value) in out.iter_mut().enumerate() {
            // Quarter 0 and 1 use the low nibbles of bytes 0..64, quarter 2 and 3 the high nibbles of the same bytes.
            let (quarter, column) = (i / 32, i % 32);
            let low = low_bits[i % 64] >> (4 * (quarter / 2)) & 0x0f;
            let high = high_bits[column] >> (2 * quarter) & 0x03;
            let q = i32::from(low | high << 4) - 32;
            let scale = f32::from(scales[8 * half + i / 16] as i8);
            *value = d * scale * q as f32;
        }
    }
}
