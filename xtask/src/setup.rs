//! MLX: provisioned before the first command that needs it, checked in passing by every later one.

use mlx_setup::{Backend, Provisioned};

use crate::error::{Error, Result};
use crate::exit_code::Verdict;
use crate::say;
use crate::tell;
use crate::workspace::Workspace;

/// Makes sure that MLX can be linked. When it can, this reads two small files.
pub fn ensure(workspace: &Workspace) -> Result<()> {
    if !workspace.uses_mlx() {
        return Ok(());
    }
    provision(workspace, None).map(|_| ())
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
        }
    }
    say!("Next: cargo xtask check 1.1   (red is expected: nothing is written yet)");
    Ok(Verdict::Passed)
}
