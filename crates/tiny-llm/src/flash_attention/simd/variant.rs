//! Choosing an instruction set at run time.

use super::Kernel;
#[cfg(target_arch = "x86_64")]
use super::avx2::Avx2;
#[cfg(target_arch = "x86_64")]
use super::avx512::Avx512;
#[cfg(target_arch = "aarch64")]
use super::neon::Neon;
use super::portable::Portable;

/// An instruction set that this machine has. [`available_variants`] gives them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Variant(Kind);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Portable,
    #[cfg(target_arch = "x86_64")]
    Avx2(Avx2),
    #[cfg(target_arch = "x86_64")]
    Avx512(Avx512),
    #[cfg(target_arch = "aarch64")]
    Neon(Neon),
}

/// The variants that this machine can run, the fastest last. The first is portable and always there.
pub fn available_variants() -> Vec<Variant> {
    let mut kinds = vec![Kind::Portable];
    #[cfg(target_arch = "x86_64")]
    kinds.extend(Avx2::detect().map(Kind::Avx2));
    #[cfg(target_arch = "x86_64")]
    kinds.extend(Avx512::detect().map(Kind::Avx512));
    #[cfg(target_arch = "aarch64")]
    kinds.extend(Neon::detect().map(Kind::Neon));
    kinds.into_iter().map(Variant).collect()
}

impl Variant {
    /// Plain Rust, for any machine.
    pub const PORTABLE: Self = Self(Kind::Portable);

    /// The fastest that this machine can run.
    pub fn best() -> Self {
        available_variants().pop().unwrap_or(Self::PORTABLE)
    }

    pub fn name(self) -> &'static str {
        match self.0 {
            Kind::Portable => "portable",
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2(_) => "avx2",
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512(_) => "avx512",
            #[cfg(target_arch = "aarch64")]
            Kind::Neon(_) => "neon",
        }
    }

    /// Runs what the kernel was compiled to for this instruction set.
    pub fn run<K: Kernel>(self, kernel: K) -> K::Output {
        match self.0 {
            Kind::Portable => kernel.run(Portable),
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2(simd) => simd.run(kernel),
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512(simd) => simd.run(kernel),
            #[cfg(target_arch = "aarch64")]
            Kind::Neon(simd) => simd.run(kernel),
        }
    }
}
