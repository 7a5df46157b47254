//! `cargo xtask author bindings`: the Rust bindings of mlx-c, written once per mlx-sys version.

use std::process::Command;

use tinyjson::JsonValue;

use crate::cargo;
use crate::error::{Error, Result};
use crate::exit_code::Verdict;
use crate::process;
use crate::say;
use crate::workspace::Workspace;

pub fn write(workspace: &Workspace) -> Result<Verdict> {
    let generator = workspace.root().join("crates/mlx-setup/bindings/generator/Cargo.toml");
    let output = workspace.root().join("crates/mlx-setup/bindings/mlx_c.rs");
    let mlx_c = mlx_c_folder(workspace)?;
    let mut command = cargo::command(workspace.root());
    command.args(["run", "--release", "--manifest-path"]).arg(&generator);
    command.arg("--target-dir").arg(workspace.target().join("bindings-generator"));
    command.arg("--").arg(&mlx_c).arg(&output);
    // clang's own headers may be missing beside a bare libclang; the C compiler's will do.
    let include = Command::new("cc").arg("-print-file-name=include").output();
    if let Ok(include) = include {
        command.env("COMPILER_INCLUDE", String::from_utf8_lossy(&include.stdout).trim());
    }
    if !process::run_attached(&mut command)?.success() {
        return Err(Error::new("the bindings could not be generated")
            .remedy("install libclang, or set LIBCLANG_PATH to its folder"));
    }
    say!("wrote {}", workspace.display(&output));
    Ok(Verdict::Passed)
}

/// The mlx-c sources inside the mlx-sys crate, wherever Cargo keeps it.
fn mlx_c_folder(workspace: &Workspace) -> Result<std::path::PathBuf> {
    let mut command = cargo::command(workspace.root());
    command.args(["metadata", "--format-version", "1"]);
    let finished = process::output(&mut command)?;
    let unreadable = || Error::new("cargo metadata does not list mlx-sys");
    let metadata: JsonValue = finished.stdout.parse().map_err(|_| unreadable())?;
    let JsonValue::Object(fields) = &metadata else { return Err(unreadable()) };
    let Some(JsonValue::Array(packages)) = fields.get("packages") else { return Err(unreadable()) };
    packages
        .iter()
        .find(|package| cargo::text(package, &["name"]) == Some("mlx-sys"))
        .and_then(|package| cargo::text(package, &["manifest_path"]))
        .and_then(|manifest| std::path::Path::new(manifest).parent())
        .map(|folder| folder.join("src/mlx-c"))
        .ok_or_else(unreadable)
}
