//! MLX: provisioned before the first command that needs it, checked in passing by every later one.

use mlx_setup::{Backend, Provisioned};

use crate::error::{Error, Result};
use crate::exit_code::Verdict;
use crate::say;
use crate::tell;
use crate::workspace::Workspace;

/// Makes sure that MLX can be linked and loaded. When it can, this reads a small file and looks for a few others.
pub fn ensure(workspace: &Workspace) -> Result<()> {
    if !workspace.uses_mlx() {
        return Ok(());
    }
    match provision(workspace, None)? {
        Provisioned::Installed { backend, .. } if !backend.has_driver() => {
            Err(Error::new(no_driver(backend)).remedy(WITHOUT_DRIVER))
        }
        _ => Ok(()),
    }
}

/// Makes sure that MLX can be linked; programs need not start here.
pub fn ensure_linkable(workspace: &Workspace) -> Result<()> {
    provision(workspace, None).map(|_| ())
}

/// What to do when [`no_driver`] holds.
pub const WITHOUT_DRIVER: &str = "install the driver, or go back with `cargo xtask setup --backend cpu`";

pub fn no_driver(backend: Backend) -> String {
    format!("this clone is set up for the backend {backend}, and this machine has no NVIDIA driver (libcuda.so.1)")
}

fn provision(workspace: &Workspace, backend: Option<Backend>) -> Result<Provisioned> {
    mlx_setup::ensure(backend, workspace.root(), &mut |step| tell!("setup: {step}"))
        .map_err(|e| Error::new(format!("MLX could not be set up: {e}")))
}

/// `cargo xtask setup [--backend NAME]`.
pub fn run(workspace: &Workspace, backend: Option<&str>) -> Result<Verdict> {
    let backend = backend.map(|name| name.parse::<Backend>().map_err(|e| Error::new(e.to_string()))).transpose()?;
    if !workspace.uses_mlx() {
        say!("This course does not use MLX: nothing to set up.");
        return Ok(Verdict::Passed);
    }
    match provision(workspace, backend)? {
        Provisioned::BuiltFromSource => {
            say!("Nothing to prepare on this system: cargo builds MLX from source the first time it needs it.");
        }
        Provisioned::Installed { backend, folder } => {
            say!("MLX is ready: backend {backend}, in {}", folder.display());
            if !backend.has_driver() {
                say!("No program will start here yet: {}; {WITHOUT_DRIVER}", no_driver(backend));
                return Ok(Verdict::Passed);
            }
        }
    }
    say!("Next: cargo xtask check 1.1   (red is expected: nothing is written yet)");
    Ok(Verdict::Passed)
}
