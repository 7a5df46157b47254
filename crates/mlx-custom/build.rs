//! Compiles `native/*.cpp`, the C++ that stands between MLX and operations written in Rust and in Metal.
//!
//! Cargo passes on what mlx-sys published about itself: `DEP_MLX_INCLUDE`, the folders of headers as a path list,
//! and `DEP_MLX_DEFINES`. The bridge derives from an MLX class, so it must be compiled against the headers that the
//! library was built from, with the same definitions.
//!
//! - On Linux the folders come from `.cargo/mlx.toml`. Executables link `libtiny_llm_mlx.so` alone and reach MLX
//!   through it; a linker looks for symbols only in libraries that it was told of. So the bridge becomes a shared
//!   library too, which names MLX's, and whose own name (SONAME) is its absolute path: programs start without an
//!   environment variable.
//! - On macOS mlx-sys builds MLX as static libraries, which Cargo puts on the linker's command line after this
//!   crate's. There the bridge is one more static library. (Read from mlx-sys 0.7.0's build script; not run by us.)

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

const SOURCES: [&str; 3] = ["native/append_buffer.cpp", "native/bridge.cpp", "native/cuda_kernel.cpp"];
const RUN_SETUP: &str = "MLX's headers were not found; on Linux run `cargo xtask setup`";

fn main() {
    println!("cargo::rerun-if-changed=native");
    if let Err(message) = build() {
        println!("cargo::error={message}");
    }
}

fn build() -> Result<(), String> {
    let include = env::var_os("DEP_MLX_INCLUDE").ok_or(RUN_SETUP)?;
    let folders: Vec<PathBuf> = env::split_paths(&include).collect();
    for header in ["mlx/array.h", "mlx/c/private/array.h"] {
        if !folders.iter().any(|folder| folder.join(header).is_file()) {
            return Err(format!("{RUN_SETUP} (no {header} in {})", include.display()));
        }
    }

    let mut bridge = cc::Build::new();
    bridge.cpp(true).std("c++20").pic(true).files(SOURCES);
    // Always optimised: its cost is paid by every operation. MLX's headers are system headers, so that their warnings are not ours.
    bridge.opt_level(2).debug(false);
    for folder in &folders {
        bridge.flag("-isystem").flag(folder);
    }
    for define in env::var("DEP_MLX_DEFINES").unwrap_or_default().split_whitespace() {
        match define.split_once('=') {
            Some((name, value)) => bridge.define(name, value),
            None => bridge.define(define, None),
        };
    }

    match env::var_os("DEP_MLX_FOLDER") {
        Some(installation) => shared_library(&bridge, Path::new(&installation)),
        None => bridge.try_compile("mlx_custom_bridge").map_err(|error| error.to_string()),
    }
}

/// Links the bridge against the installed MLX, by absolute paths.
fn shared_library(bridge: &cc::Build, installation: &Path) -> Result<(), String> {
    let objects = bridge.try_compile_intermediates().map_err(|error| error.to_string())?;
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?);
    let library = out.join("libmlx_custom_bridge.so");
    let mlx = installation.join("wheels/mlx/lib");

    let mut link = Command::new(bridge.get_compiler().path());
    link.arg("-shared").args(&objects).arg("-o").arg(&library);
    link.arg(format!("-L{}", mlx.display())).arg("-lmlx");
    link.arg(format!("-Wl,-rpath,{}", mlx.display())).arg(format!("-Wl,-soname,{}", library.display()));
    let output = link.output().map_err(|error| format!("cannot run the C++ compiler: {error}"))?;
    if !output.status.success() {
        return Err(format!(
            "linking the bridge failed: {}",
            String::from_utf8_lossy(&output.stderr).replace('\n', " ")
        ));
    }
    println!("cargo::rustc-link-search=native={}", out.display());
    println!("cargo::rustc-link-lib=dylib=mlx_custom_bridge");
    Ok(())
}
