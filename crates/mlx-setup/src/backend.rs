use std::env;
use std::fmt;
use std::path::Path;
use std::process::Command;
use std::str::FromStr;

use wheel_fetch::Wheel;

use crate::Error;

/// The MLX that mlx-sys 0.7.0 wraps. Raising it means raising mlx-rs and mlx-sys in the workspace's Cargo.toml,
/// `MLX_SYS_VERSION` in `mlx_sys.rs`, the digests below, and running `cargo xtask author bindings`.
pub const MLX_VERSION: &str = "0.32.2";

/// Which prebuilt MLX to install.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    /// Linux without a GPU.
    Cpu,
    /// Linux with an NVIDIA GPU and a driver for CUDA 12.
    Cuda12,
    /// Linux with an NVIDIA GPU and a driver for CUDA 13.
    Cuda13,
}

impl Backend {
    /// Every backend, by the name that [`FromStr`] takes. `cuda` means CUDA 13.
    pub const NAMES: [(&'static str, Self); 4] =
        [("cpu", Self::Cpu), ("cuda", Self::Cuda13), ("cuda12", Self::Cuda12), ("cuda13", Self::Cuda13)];

    pub(crate) fn wheels(self) -> [Wheel; 2] {
        let mlx = match self {
            Self::Cpu => Wheel {
                name: "mlx-cpu",
                version: MLX_VERSION,
                sha256: &[
                    "fc5d31b90fc4f457b2f9614ed45651a567d22a6a11a03d114a90a4e10bdd8878", // x86-64
                    "d0f94625588b51a878786dd51cec5617894ce586cf3c94645ce1b64e24c27c0b", // aarch64
                ],
                with_dependencies: false,
            },
            // The CUDA wheels name NVIDIA's own wheels, which have to come along where programs run.
            Self::Cuda12 => cuda_wheel(
                "mlx-cuda-12",
                &[
                    "35445ead9724855826f310b9085d57137d0a2c5381cc293cb6d86b03bb4feadf", // x86-64
                    "c794c697dcd28e00a51ce8813189ece1a8c62559de7cc5e27803cc591f55df05", // aarch64
                ],
            ),
            Self::Cuda13 => cuda_wheel(
                "mlx-cuda-13",
                &[
                    "335094ccd1c0c6dc3e09c8caba207c8180602bacc0c38ba20c1d81e9456ab394", // x86-64
                    "49b1a25df9021f3b519a534fd39a32a5cdbf93a1b265a31e59671c2d9fc9f4a2", // aarch64
                ],
            ),
        };
        let openblas = Wheel {
            name: "scipy-openblas32",
            version: "0.3.34.481.3",
            sha256: &[
                "0595f94cd58c1f8a0d90c975621f4587337a003916b1979e834ebdf2cb5d9504", // x86-64
                "e085dddbc5b9aa130f83def515d31c440e69f387a90c7e63b154a5575b4466bc", // aarch64
            ],
            with_dependencies: false,
        };
        [mlx, openblas]
    }

    /// [`Backend::wheels`] without what they ask for: on the machine where they run, NVIDIA's libraries are there.
    pub(crate) fn wheels_alone(self) -> [Wheel; 2] {
        self.wheels().map(|wheel| Wheel { with_dependencies: false, ..wheel })
    }

    /// Fails early, with a reason, where no wheel exists.
    pub(crate) fn check_platform(self) -> Result<(), Error> {
        if !cfg!(any(target_arch = "x86_64", target_arch = "aarch64")) {
            return Err(Error::Unsupported("prebuilt MLX for Linux exists for x86-64 and aarch64 only".into()));
        }
        if !cfg!(target_env = "gnu") {
            return Err(Error::Unsupported(
                "prebuilt MLX for Linux needs glibc; this Rust toolchain targets another C library".into(),
            ));
        }
        Ok(())
    }

    /// Whether programs can start: the CUDA build of MLX loads the NVIDIA driver's library then. Its files can be
    /// installed, and programs be built with them, on any machine.
    pub fn has_driver(self) -> bool {
        self == Self::Cpu || Path::new("/proc/driver/nvidia/version").exists() || loader_finds("libcuda.so.1")
    }

    /// What to know before a download, for the report.
    pub(crate) fn size_note(self) -> &'static str {
        if self == Self::Cpu { "" } else { ", with NVIDIA's libraries, 2.5 GB" }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Cuda12 => "cuda12",
            Self::Cuda13 => "cuda13",
        }
    }
}

/// Whether the dynamic loader knows a library: in a folder of `LD_LIBRARY_PATH`, or in its cache.
fn loader_finds(library: &str) -> bool {
    let folders = env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
    // Not every user has /sbin on their PATH.
    let in_cache = |program: &str| {
        let output = Command::new(program).arg("-p").output();
        output.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains(library))
    };
    env::split_paths(&folders).any(|folder| folder.join(library).is_file())
        || in_cache("ldconfig")
        || in_cache("/sbin/ldconfig")
}

fn cuda_wheel(name: &'static str, sha256: &'static [&'static str]) -> Wheel {
    Wheel { name, version: MLX_VERSION, sha256, with_dependencies: true }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Backend {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Self::NAMES.iter().find(|(name, _)| *name == text).map(|(_, backend)| *backend).ok_or_else(|| {
            let known: Vec<_> = Self::NAMES.iter().map(|(name, _)| *name).collect();
            Error::Unsupported(format!("unknown backend `{text}`; choose one of {}", known.join(", ")))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_backend_is_found_by_the_name_it_prints() {
        for backend in [Backend::Cpu, Backend::Cuda12, Backend::Cuda13] {
            assert_eq!(backend.to_string().parse::<Backend>().unwrap(), backend);
        }
        assert_eq!("cuda".parse::<Backend>().unwrap(), Backend::Cuda13);
    }

    #[test]
    fn the_loaders_libraries_are_found() {
        if cfg!(all(target_os = "linux", target_env = "gnu")) {
            assert!(loader_finds("libc.so.6"));
        }
        assert!(!loader_finds("libno-such-library.so.1"));
        assert!(Backend::Cpu.has_driver());
    }

    #[test]
    fn wheels_alone_are_pinned_by_digest() {
        for backend in [Backend::Cpu, Backend::Cuda12, Backend::Cuda13] {
            for wheel in backend.wheels_alone() {
                assert!(!wheel.with_dependencies && wheel.sha256.len() == 2, "{}", wheel.name);
            }
        }
    }

    #[test]
    fn an_unknown_backend_is_refused_with_the_list() {
        let message = "rocm".parse::<Backend>().unwrap_err().to_string();
        assert!(message.contains("rocm") && message.contains("cuda12"), "{message}");
    }
}
