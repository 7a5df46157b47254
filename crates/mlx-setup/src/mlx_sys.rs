//! Finding mlx-c's sources, which the mlx-sys crate carries.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::Error;

/// The bindings in this crate belong to exactly this version.
const MLX_SYS_VERSION: &str = "0.7.0";

/// The folder `src/mlx-c` of the mlx-sys crate that the workspace resolves to; Cargo downloads it if need be.
pub(crate) fn locate(workspace: &Path) -> Result<PathBuf, Error> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--format-version", "1", "--locked"])
        .current_dir(workspace)
        .output()
        .map_err(|e| Error::Sources(format!("cannot run cargo: {e}")))?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        let first = stderr.lines().find(|line| line.starts_with("error")).unwrap_or("no reason given");
        return Err(Error::Sources(format!(
            "Cargo could not resolve the workspace's crates ({first}); check the network and run `cargo fetch`"
        )));
    }
    let metadata: Value = serde_json::from_slice(&output.stdout)
        .map_err(|e| Error::Sources(format!("cargo metadata printed no JSON: {e}")))?;
    let packages = metadata["packages"].as_array().map(Vec::as_slice).unwrap_or_default();
    let package = packages.iter().find(|package| package["name"] == "mlx-sys");
    let Some(package) = package else {
        return Err(Error::Sources("the workspace does not depend on mlx-sys".into()));
    };
    if package["version"] != MLX_SYS_VERSION {
        return Err(Error::Sources(format!(
            "the workspace uses mlx-sys {}, but the bindings were made for {MLX_SYS_VERSION}: \
             run `cargo xtask author bindings`",
            package["version"]
        )));
    }
    let manifest = Path::new(package["manifest_path"].as_str().unwrap_or_default());
    let sources = manifest.parent().unwrap_or(Path::new("")).join("src/mlx-c");
    if sources.join("mlx/c").is_dir() {
        Ok(sources)
    } else {
        Err(Error::Sources(format!("{} holds no sources of mlx-c", sources.display())))
    }
}
