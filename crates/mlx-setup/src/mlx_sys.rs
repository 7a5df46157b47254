//! Finding mlx-c's sources, which the mlx-sys crate carries.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use tinyjson::JsonValue;

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
    let metadata: JsonValue = String::from_utf8_lossy(&output.stdout)
        .parse()
        .map_err(|e| Error::Sources(format!("cargo metadata printed no JSON: {e}")))?;
    let packages = field(&metadata, "packages").and_then(JsonValue::get::<Vec<JsonValue>>);
    let is_mlx_sys = |package: &&JsonValue| text(package, "name") == Some("mlx-sys");
    let Some(package) = packages.and_then(|packages| packages.iter().find(is_mlx_sys)) else {
        return Err(Error::Sources("the workspace does not depend on mlx-sys".into()));
    };
    let version = text(package, "version").unwrap_or_default();
    if version != MLX_SYS_VERSION {
        return Err(Error::Sources(format!(
            "the workspace uses mlx-sys {version}, but the bindings were made for {MLX_SYS_VERSION}: \
             run `cargo xtask author bindings`"
        )));
    }
    let manifest = Path::new(text(package, "manifest_path").unwrap_or_default());
    let sources = manifest.parent().unwrap_or(Path::new("")).join("src/mlx-c");
    if sources.join("mlx/c").is_dir() {
        Ok(sources)
    } else {
        Err(Error::Sources(format!("{} holds no sources of mlx-c", sources.display())))
    }
}

fn field<'a>(value: &'a JsonValue, key: &str) -> Option<&'a JsonValue> {
    value.get::<HashMap<String, JsonValue>>()?.get(key)
}

fn text<'a>(value: &'a JsonValue, key: &str) -> Option<&'a str> {
    field(value, key)?.get::<String>().map(String::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sources_are_found_in_this_workspace() {
        let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        assert!(locate(&workspace).unwrap().join("mlx/c/array.h").is_file());
    }
}
