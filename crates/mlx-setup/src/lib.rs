//! Provisions MLX for mlx-rs on Linux.
//!
//! mlx-sys builds MLX from source with Apple's tools, which only works on macOS; there this crate
//! has nothing to do. On Linux it
//!
//! 1. installs prebuilt MLX, and OpenBLAS, as pinned PyPI wheels into the user's cache folder,
//! 2. compiles mlx-c (its sources lie inside the mlx-sys crate) into one shared library, together with
//!    the few functions that are missing on Linux and a forwarder from MLX's BLAS calls to OpenBLAS,
//! 3. writes `.cargo/mlx.toml`, in which Cargo finds the library *instead of* running mlx-sys's build script
//!    (its manifest says `links = "mlx"`, and Cargo lets a configuration table stand in for such a script).
//!
//! The shared library's own name (its SONAME) is its absolute path, so executables find it without an
//! environment variable or an rpath. Each step is kept when done: an interrupted setup goes on where it was.

mod backend;
mod cargo_config;
mod compile;
mod error;
mod layout;
mod mlx_sys;

use std::fs::{self, File};
use std::path::{Path, PathBuf};

pub use backend::{Backend, MLX_VERSION};
pub use error::Error;
use layout::Layout;

/// What [`ensure`] found or made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Provisioned {
    /// Not Linux: mlx-sys builds MLX from source when Cargo asks for it.
    BuiltFromSource,
    /// Linux: the folder that holds the libraries.
    Installed { backend: Backend, folder: PathBuf },
}

/// What is there, without changing anything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Status {
    /// Not Linux: nothing to provision.
    NotNeeded,
    /// `.cargo/mlx.toml` points at a complete installation.
    Ready { backend: Backend, folder: PathBuf },
    /// Setup has not run, or its files were removed; the text says what is missing.
    Missing(String),
}

/// Reports on the installation that the workspace uses.
pub fn status(workspace: &Path) -> Status {
    if !cfg!(target_os = "linux") {
        return Status::NotNeeded;
    }
    let Some((backend, folder)) = cargo_config::read(workspace) else {
        return Status::Missing("`cargo xtask setup` has not run in this clone".into());
    };
    let layout = Layout::at(folder);
    if !layout.library().is_file() {
        return Status::Missing(format!("{} is gone", layout.library().display()));
    }
    if layout.folder_name_for(backend) != layout.folder_name() {
        return Status::Missing("the installed MLX belongs to another version of the course".into());
    }
    if !cargo_config::leads_to_headers(workspace) {
        return Status::Missing("`.cargo/mlx.toml` does not lead to the headers of MLX and mlx-c".into());
    }
    Status::Ready { backend, folder: layout.folder }
}

/// Makes sure that MLX can be linked, installing what is missing; `report` receives one line per step.
///
/// `backend: None` keeps the backend that this clone uses, or takes the CPU. When everything is there, this
/// reads one small file, looks for a few others, and returns.
///
/// # Errors
/// One line that says what to do: no pip, no network, no disk, no C++20 compiler, an unsupported system.
pub fn ensure(backend: Option<Backend>, workspace: &Path, report: &mut dyn FnMut(&str)) -> Result<Provisioned, Error> {
    if !cfg!(target_os = "linux") {
        return match backend {
            Some(Backend::Cuda12 | Backend::Cuda13) => {
                Err(Error::Unsupported("the CUDA backend exists on Linux only".into()))
            }
            _ => Ok(Provisioned::BuiltFromSource),
        };
    }
    let current = status(workspace);
    let backend = match (&current, backend) {
        (Status::Ready { backend, folder }, wanted) if wanted.is_none_or(|w| w == *backend) => {
            return Ok(Provisioned::Installed { backend: *backend, folder: folder.clone() });
        }
        (_, Some(wanted)) => wanted,
        // Files that went missing are restored for the backend that was chosen before.
        (_, None) => cargo_config::read(workspace).map_or(Backend::Cpu, |(backend, _)| backend),
    };
    backend.check_platform()?;
    let layout = Layout::for_backend(backend)?;

    let (version, size) = (backend::MLX_VERSION, backend.size_note());
    report(&format!("installing MLX {version} ({backend}{size}) into {}", layout.folder.display()));
    let _lock = lock(&layout.folder)?;
    wheel_fetch::install(&backend.wheels(), &layout.wheels())?;
    layout.write_bindings()?;
    let mlx_c = mlx_sys::locate(workspace)?;
    if !layout.library().is_file() {
        compile::shared_library(&layout, &mlx_c, report)?;
    }
    cargo_config::write(workspace, backend, &layout, &mlx_c)?;
    report("MLX is ready");
    Ok(Provisioned::Installed { backend, folder: layout.folder })
}

/// The wheels of `backend` for another machine: a folder that holds `mlx/`, `scipy_openblas32/` and the small
/// libraries that MLX's wheel brings, but none of NVIDIA's. The clone keeps the backend that it uses.
///
/// Programs built with the MLX of one backend run with that of another: both are the same version, and have the same ABI.
///
/// # Errors
/// As [`ensure`], for what concerns wheels; [`Error::Unsupported`] where MLX is built from source.
pub fn wheels_to_carry(backend: Backend, report: &mut dyn FnMut(&str)) -> Result<PathBuf, Error> {
    if !cfg!(target_os = "linux") {
        return Err(Error::Unsupported("prebuilt MLX exists for Linux only".into()));
    }
    backend.check_platform()?;
    let installed = Layout::for_backend(backend)?.wheels();
    if installed.is_dir() {
        return Ok(installed);
    }
    let folder = Layout::wheels_to_carry(backend)?;
    if !folder.is_dir() {
        report(&format!("fetching MLX {} ({backend}) into {}", backend::MLX_VERSION, folder.display()));
        wheel_fetch::install(&backend.wheels_alone(), &folder)?;
    }
    Ok(folder)
}

/// The C++ compiler that [`ensure`] would use.
///
/// # Errors
/// [`Error::Compiler`] if there is none that understands C++20; the text says what to install.
pub fn compiler() -> Result<String, Error> {
    compile::find_compiler().map(|name| name.to_string_lossy().into_owned())
}

/// Waits until no other process, of this clone or another one, writes into the folder.
fn lock(folder: &Path) -> Result<File, Error> {
    fs::create_dir_all(folder).map_err(|e| Error::io("create", folder, e))?;
    let path = folder.join("lock");
    let file = File::create(&path).map_err(|e| Error::io("create", &path, e))?;
    file.lock().map_err(|e| Error::io("lock", &path, e))?;
    Ok(file)
}
