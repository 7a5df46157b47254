//! `mlx-bindings-generator MLX_C_FOLDER MLX_SYS_VERSION OUTPUT`: writes Rust bindings for mlx-c as found in that mlx-sys.
//!
//! mlx-sys makes these while it builds, which needs libclang on every learner's machine. The text does not
//! depend on the machine once the two half-precision types are named, so it is made once and committed.
//! LIBCLANG_PATH is the folder of libclang; `cargo xtask author bindings` sets it.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::{env, fs};

/// The layout of the output, whatever folder this runs in.
const RUSTFMT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../rustfmt.toml");
/// The two half-precision types, in front of every header.
const HALF_TYPES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/half_types.h");

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<PathBuf> = env::args_os().skip(1).map(PathBuf::from).collect();
    let [mlx_c, version, output] = arguments.as_slice() else {
        return Err("usage: mlx-bindings-generator MLX_C_FOLDER MLX_SYS_VERSION OUTPUT".into());
    };
    let mut bindings = bindgen::Builder::default()
        .clang_args(["-include", HALF_TYPES])
        .clang_arg(format!("-I{}", mlx_c.display()))
        .clang_arg("-x")
        .clang_arg("c")
        // The C library's own FILE differs between platforms and is only passed through.
        .opaque_type("_IO_FILE")
        .layout_tests(false)
        .rustfmt_configuration_file(Some(RUSTFMT.into()))
        .raw_line(format!(
            "// mlx-c of mlx-sys {}. Written by `cargo xtask author bindings`; do not edit.",
            version.display()
        ))
        .allowlist_item("_?mlx_.*|MLX_.*|float16_t|bfloat16_t|complex64_t")
        .rust_target("1.73.0".parse().map_err(|_| "unknown Rust target")?);
    if let Ok(include) = env::var("COMPILER_INCLUDE") {
        bindings = bindings.clang_arg(format!("-I{include}"));
    }
    for header in headers(&mlx_c.join("mlx/c"))? {
        bindings = bindings.header(header.to_string_lossy());
    }
    bindings.generate()?.write_to_file(output)?;
    Ok(())
}

/// The public headers, sorted so that the output does not depend on the file system.
fn headers(folder: &Path) -> Result<Vec<PathBuf>, Box<dyn Error>> {
    let mut headers = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "h") {
            headers.push(path);
        }
    }
    headers.sort();
    Ok(headers)
}
