//! How fast f32 fused multiply-adds can be, with everything in registers.

use std::hint::black_box;

use anyhow::Result;

use crate::machine::together::fastest_pass;

const ROUNDS: u64 = 2_000_000;

/// Operations per second of `threads` threads together; a multiply-add is two.
///
/// # Errors
/// As [`fastest_pass`].
pub fn peak(threads: usize) -> Result<f64> {
    let kernel = Kernel::best();
    let seconds = fastest_pass(
        threads,
        || Ok(()),
        |()| {
            black_box(kernel.run(black_box(ROUNDS)));
        },
    )?;
    Ok((threads as u64 * ROUNDS * kernel.operations_per_round()) as f64 / seconds)
}

/// Independent sums per round. A multiply-add takes about four cycles and two start in each, so eight would do; more hide
/// what else a loop costs, and all must fit into the registers.
const SUMS: usize = 12;

/// The widest arithmetic that this processor has.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Kernel {
    #[cfg(target_arch = "x86_64")]
    Avx512,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// Four lanes, as SSE2 and NEON have them, left to the compiler.
    Portable,
}

impl Kernel {
    fn best() -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx512f") {
                return Self::Avx512;
            }
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                return Self::Avx2;
            }
        }
        Self::Portable
    }

    fn lanes(self) -> u64 {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => 16,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => 8,
            Self::Portable => 4,
        }
    }

    fn operations_per_round(self) -> u64 {
        2 * self.lanes() * SUMS as u64
    }

    fn run(self, rounds: u64) -> f32 {
        match self {
            // SAFETY: `best` returns these only where the processor has the instructions.
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => unsafe { avx512(rounds) },
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => unsafe { avx2(rounds) },
            Self::Portable => portable(rounds),
        }
    }
}

// `sum = sum * FACTOR + STEP` stays near 1: neither overflow nor denormal numbers, which would be slow. The sums start in a
// `black_box`: a compiler that knew them to be equal would compute one of them.
const FACTOR: f32 = 0.999;
const STEP: f32 = 0.001;

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn avx512(rounds: u64) -> f32 {
    use std::arch::x86_64::{_mm512_fmadd_ps, _mm512_reduce_add_ps, _mm512_set1_ps};
    let (factor, step) = (_mm512_set1_ps(FACTOR), _mm512_set1_ps(STEP));
    let mut sums = black_box([_mm512_set1_ps(1.0); SUMS]);
    for _ in 0..rounds {
        for sum in &mut sums {
            *sum = _mm512_fmadd_ps(*sum, factor, step);
        }
    }
    sums.iter().map(|&sum| _mm512_reduce_add_ps(sum)).sum()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn avx2(rounds: u64) -> f32 {
    use std::arch::x86_64::{_mm_cvtss_f32, _mm256_castps256_ps128, _mm256_fmadd_ps, _mm256_set1_ps};
    let (factor, step) = (_mm256_set1_ps(FACTOR), _mm256_set1_ps(STEP));
    let mut sums = black_box([_mm256_set1_ps(1.0); SUMS]);
    for _ in 0..rounds {
        for sum in &mut sums {
            *sum = _mm256_fmadd_ps(*sum, factor, step);
        }
    }
    // All lanes are equal; reading one keeps the work alive.
    sums.iter().map(|&sum| _mm_cvtss_f32(_mm256_castps256_ps128(sum))).sum()
}

fn portable(rounds: u64) -> f32 {
    // Without the instruction, `mul_add` would be a call of a library function.
    let has_fused = cfg!(any(target_arch = "aarch64", target_feature = "fma"));
    let mut sums = black_box([[1.0_f32; 4]; SUMS]);
    for _ in 0..rounds {
        for lane in sums.as_flattened_mut() {
            *lane = if has_fused { lane.mul_add(FACTOR, STEP) } else { *lane * FACTOR + STEP };
        }
    }
    sums.as_flattened().iter().sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kernel_computes_the_same_recurrence() {
        // 1 is the fixed point: 1 * 0.999 + 0.001.
        for kernel in [Kernel::best(), Kernel::Portable] {
            let mean = kernel.run(1000) / (kernel.run(0));
            assert!((mean - 1.0).abs() < 1e-3, "{kernel:?}: {mean}");
        }
    }

    #[test]
    fn the_rate_is_that_of_a_processor() {
        // No core does more than two multiply-adds of 16 lanes in each of seven billion cycles. A compiler that sees
        // through the loop would seem to.
        let (one, most) = (peak(1).unwrap(), 7e9 * 2.0 * 32.0);
        assert!((1e7..most).contains(&one), "{one}");
    }
}
