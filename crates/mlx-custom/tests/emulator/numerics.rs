//! 16-bit numbers, bit for bit as the `half` crate has them.

use half::{bf16, f16};
use mlx_rs::{Array, Dtype};

use crate::support::{Start, kernel};

const N: usize = 1 << 16;

/// All 65536 patterns of bits.
fn patterns() -> Vec<u32> {
    (0..N as u32).collect()
}

fn bits_of(body: &'static str, name: &'static str, words: &[u32]) -> Vec<u32> {
    let x = Array::from_slice(words, &[words.len() as i32]);
    let out = Start::new(words.len(), 256, words.len()).of(Dtype::Uint32).run(&kernel(name, body), &[&x]).unwrap();
    out.as_slice::<u32>().to_vec()
}

#[test]
fn half_to_float() {
    let out = bits_of(
        "uint i = thread_position_in_grid.x;\nout[i] = as_type<uint>(float(as_type<half>(ushort(x[i]))));",
        "half_to_float",
        &patterns(),
    );
    for (bits, &got) in out.iter().enumerate() {
        let expected = f16::from_bits(bits as u16).to_f32();
        let same = if expected.is_nan() { f32::from_bits(got).is_nan() } else { got == expected.to_bits() };
        assert!(same, "{bits:#06x}: {got:#010x}, and it is {:#010x}", expected.to_bits());
    }
}

#[test]
fn bfloat16_to_float() {
    let out = bits_of(
        "uint i = thread_position_in_grid.x;\nout[i] = as_type<uint>(float(as_type<bfloat16_t>(ushort(x[i]))));",
        "bfloat16_to_float",
        &patterns(),
    );
    for (bits, &got) in out.iter().enumerate() {
        assert_eq!(got, (bits as u32) << 16);
    }
}

/// Around every 16-bit number: itself, the middle to the next one, and a little to both sides of the middle.
fn floats_around(to_f32: impl Fn(u16) -> f32) -> Vec<u32> {
    let mut floats = Vec::new();
    for bits in 0..N as u32 {
        let (this, next) = (to_f32(bits as u16), to_f32((bits as u16).wrapping_add(1)));
        let middle = (f64::from(this) + f64::from(next)) / 2.0;
        let middle = (middle as f32).to_bits();
        floats.extend([this.to_bits(), middle, middle.wrapping_add(1), middle.wrapping_sub(1)]);
    }
    floats
}

#[test]
fn float_to_half_rounds_to_the_nearest_even() {
    let floats = floats_around(|bits| f16::from_bits(bits).to_f32());
    let out = bits_of(
        "uint i = thread_position_in_grid.x;\nout[i] = as_type<ushort>(half(as_type<float>(x[i])));",
        "float_to_half",
        &floats,
    );
    for (&float, &got) in floats.iter().zip(&out) {
        let expected = f16::from_f32(f32::from_bits(float));
        let same =
            if expected.is_nan() { f16::from_bits(got as u16).is_nan() } else { got == u32::from(expected.to_bits()) };
        assert!(same, "{float:#010x}: {got:#06x}, and it is {:#06x}", expected.to_bits());
    }
}

#[test]
fn float_to_bfloat16_rounds_to_the_nearest_even() {
    let floats = floats_around(|bits| bf16::from_bits(bits).to_f32());
    let out = bits_of(
        "uint i = thread_position_in_grid.x;\nout[i] = as_type<ushort>(bfloat16_t(as_type<float>(x[i])));",
        "float_to_bfloat16",
        &floats,
    );
    for (&float, &got) in floats.iter().zip(&out) {
        let expected = bf16::from_f32(f32::from_bits(float));
        let same =
            if expected.is_nan() { bf16::from_bits(got as u16).is_nan() } else { got == u32::from(expected.to_bits()) };
        assert!(same, "{float:#010x}: {got:#06x}, and it is {:#06x}", expected.to_bits());
    }
}

#[test]
fn the_portable_conversions_agree_with_those_of_the_processor() {
    let floats = floats_around(|bits| f16::from_bits(bits).to_f32());
    let out = bits_of(
        "uint i = thread_position_in_grid.x;
        float value = as_type<float>(x[i]);
        ushort bits = emu::float_to_half_portable(value);
        bool nan = isnan(value);
        bool same = nan ? (bits & 0x7fff) > 0x7c00 : bits == half(value).bits;
        float back = emu::half_to_float_portable(bits);
        same = same && (nan ? isnan(back) : as_type<uint>(back) == as_type<uint>(float(half(value))));
        out[i] = same;",
        "portable",
        &floats,
    );
    assert_eq!(out.iter().position(|&same| same != 1), None);
}

#[test]
fn arithmetic_is_rounded_once_per_operation() {
    // Pairs of numbers that look random.
    let words: Vec<u32> = (0..N as u32).map(|i| i.wrapping_mul(2_654_435_761) ^ 0x1234_5678).collect();
    let out = bits_of(
        "uint i = thread_position_in_grid.x;
        half a = as_type<half>(ushort(x[i])), b = as_type<half>(ushort(x[i] >> 16));
        half sum = a * b + a;
        out[i] = as_type<ushort>(sum) | uint(as_type<ushort>(half(a / b - 2))) << 16;",
        "half_arithmetic",
        &words,
    );
    for (&word, &got) in words.iter().zip(&out) {
        let (a, b) = (f16::from_bits(word as u16).to_f32(), f16::from_bits((word >> 16) as u16).to_f32());
        let sum = f16::from_f32(f16::from_f32(a * b).to_f32() + a);
        let quotient = f16::from_f32(f16::from_f32(a / b).to_f32() - 2.0);
        for (expected, got) in [(sum, got as u16), (quotient, (got >> 16) as u16)] {
            let same = if expected.is_nan() { f16::from_bits(got).is_nan() } else { got == expected.to_bits() };
            assert!(same, "{a} and {b}: {got:#06x}, and it is {:#06x}", expected.to_bits());
        }
    }
}

#[test]
fn functions_of_numbers() {
    let body = "uint i = thread_position_in_grid.x;
        float v = x[i];
        float results[16] = {exp(v), fast::exp(v), exp2(v), log(v + 1.0f), rsqrt(v + 1.0f), precise::sqrt(v), max(v, 2.0f),
            min(v, 2.0f), abs(-v), clamp(v, 1.0f, 2.0f), fma(v, v, 1.0f), select(1.0f, 2.0f, v > 1.0f), floor(v), sin(v),
            metal::cos(v), isnan(v) || isinf(v) ? 1.0f : 0.0f};
        for (uint k = 0; k < 16; k++) out[16 * i + k] = results[k];";
    let numbers = [0.0_f32, 0.25, 1.5, 3.75];
    let x = Array::from_slice(&numbers, &[4]);
    let out = Start::new(4, 4, 64).run(&kernel("functions", body), &[&x]).unwrap();
    for (&v, row) in numbers.iter().zip(out.as_slice::<f32>().chunks(16)) {
        let expected = [
            v.exp(),
            v.exp(),
            v.exp2(),
            (v + 1.0).ln(),
            1.0 / (v + 1.0).sqrt(),
            v.sqrt(),
            v.max(2.0),
            v.min(2.0),
            v,
            v.clamp(1.0, 2.0),
            v * v + 1.0,
            if v > 1.0 { 2.0 } else { 1.0 },
            v.floor(),
            v.sin(),
            v.cos(),
            0.0,
        ];
        for (k, (got, expected)) in row.iter().zip(expected).enumerate() {
            assert!(
                (got - expected).abs() <= 2e-7 * (1.0 + expected.abs()),
                "function {k} of {v}: {got}, not {expected}"
            );
        }
    }
}
