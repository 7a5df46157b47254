//! `cargo xtask author bindings`: the Rust bindings of mlx-c, written once per mlx-sys version.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use tinyjson::JsonValue;
use wheel_fetch::Wheel;

use crate::cargo;
use crate::error::{Error, Result};
use crate::exit_code::Verdict;
use crate::process;
use crate::say;
use crate::workspace::Workspace;

/// The libclang that reads the headers. Pinned, so that the text depends on no author's machine.
const LIBCLANG: Wheel = Wheel {
    name: "libclang",
    version: "18.1.1",
    sha256: &[
        "c533091d8a3bbf7460a00cb6c1a71da93bffe148f172c7d03b1c31fbf8aa2a0b", // Linux x86-64
        "54dda940a4a0491a9d1532bf071ea3ef26e6dbaf03b5000ed94dd7174e8f9592", // Linux aarch64
        "0b2e143f0fac830156feb56f9231ff8338c20aecfe72b4ffe96f19e5a1dbb69a", // macOS arm64
        "6f14c3f194704e5d09769108f03185fce7acaf1d1ae4bbb2f30a72c2400cb7c5", // macOS x86-64
    ],
    with_dependencies: false,
};

pub fn write(workspace: &Workspace) -> Result<Verdict> {
    let generator = workspace.root().join("crates/mlx-setup/bindings/generator/Cargo.toml");
    let output = workspace.root().join("crates/mlx-setup/bindings/mlx_c.rs");
    let (version, mlx_c) = mlx_sys(workspace)?;
    let mut command = cargo::command(workspace.root());
    command.args(["run", "--manifest-path"]).arg(&generator);
    command.arg("--target-dir").arg(workspace.target().join("bindings-generator"));
    command.arg("--").arg(&mlx_c).arg(&version).arg(&output);
    command.env("LIBCLANG_PATH", libclang()?);
    // clang's own headers may be missing beside a bare libclang; the C compiler's will do.
    let include = Command::new("cc").arg("-print-file-name=include").output();
    if let Ok(include) = include {
        command.env("COMPILER_INCLUDE", String::from_utf8_lossy(&include.stdout).trim());
    }
    if !process::run_attached(&mut command)?.success() {
        return Err(Error::new("the bindings could not be generated")
            .remedy("the reason stands above; LIBCLANG_PATH chooses the folder of another libclang"));
    }
    say!("wrote {}", workspace.display(&output));
    Ok(Verdict::Passed)
}

/// The folder of `LIBCLANG_PATH`, else that of the pinned wheel, fetched on first use.
fn libclang() -> Result<OsString> {
    if let Some(chosen) = env::var_os("LIBCLANG_PATH").filter(|folder| !folder.is_empty()) {
        return Ok(chosen);
    }
    let failed = |e: wheel_fetch::Error| Error::new(e.to_string());
    let folder = wheel_fetch::cache_dir().map_err(failed)?.join(format!("{}-{}", LIBCLANG.name, LIBCLANG.version));
    wheel_fetch::install(&[LIBCLANG], &folder).map_err(failed)?;
    Ok(folder.join("clang/native").into_os_string())
}

/// The version of the mlx-sys crate, and the mlx-c sources inside it, wherever Cargo keeps it.
fn mlx_sys(workspace: &Workspace) -> Result<(String, PathBuf)> {
    let mut command = cargo::command(workspace.root());
    command.args(["metadata", "--format-version", "1"]);
    let finished = process::output(&mut command)?;
    let unreadable = || Error::new("cargo metadata does not list mlx-sys");
    let metadata: JsonValue = finished.stdout.parse().map_err(|_| unreadable())?;
    let JsonValue::Object(fields) = &metadata else { return Err(unreadable()) };
    let Some(JsonValue::Array(packages)) = fields.get("packages") else { return Err(unreadable()) };
    let package = packages.iter().find(|package| cargo::text(package, &["name"]) == Some("mlx-sys"));
    let text = |key: &str| package.and_then(|package| cargo::text(package, &[key]));
    let folder = text("manifest_path").and_then(|manifest| Path::new(manifest).parent());
    let (Some(version), Some(folder)) = (text("version"), folder) else { return Err(unreadable()) };
    Ok((version.to_owned(), folder.join("src/mlx-c")))
}
