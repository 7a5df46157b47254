//! The kernels of these tests keep to Metal, as far as that shows without Apple's compiler.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use mlx_custom::gpu::{GpuKernel, Lowered, check_metal};

/// The stub of Metal's library for clang: address spaces as attributes that its type checker knows.
const STUB: &str = include_str!("metal_stub.h");

/// Bodies with their headers, all `.metal` files of this folder.
fn kernels() -> Vec<(String, GpuKernel)> {
    // Cargo sets the variable for tests too, and so does whoever runs this program on another machine.
    let package = env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    let folder = Path::new(&package).join("tests/gpu/kernels");
    let mut files: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let read = |path: &Path| -> &'static str { fs::read_to_string(path).unwrap().leak() };
    let bodies = files.iter().filter(|path| !path.to_str().unwrap().ends_with("_header.metal"));
    let kernels = bodies.map(|path| {
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let header = path.with_file_name(format!("{name}_header.metal"));
        let header = if header.exists() { read(&header) } else { "" };
        let kernel = GpuKernel { name: "kernel", inputs: &[], outputs: &[], header, body: read(path), strided: false };
        (name, kernel)
    });
    kernels.collect()
}

#[test]
fn every_kernel_of_these_tests_looks_like_metal() {
    let kernels = kernels();
    assert!(kernels.len() > 10, "{}", kernels.len());
    for (name, kernel) in kernels {
        assert_eq!(check_metal(&kernel, &["T"]), [], "{name}");
    }
}

/// What clang says about a body in a function that has these arrays, in Metal's address spaces.
fn clang(compiler: &str, name: &str, kernel: &GpuKernel) -> Result<(), String> {
    let lowered = Lowered::new(kernel).unwrap();
    // Local variables can't lie in an address space, but what they refer to can.
    let body =
        lowered.body_with(|array| format!("extern threadgroup {} {}{};", array.element, array.name, array.lengths));
    let source = format!("{STUB}\n{}\nvoid body() {{\n#line 1 \"{name}.metal\"\n{body}\n}}\n", kernel.header);
    let file = std::env::temp_dir().join(format!("mlx_custom_{}_{name}.cpp", std::process::id()));
    fs::write(&file, source).unwrap();
    let options = ["-x", "c++", "-std=c++17", "-fsyntax-only", "-mavx512fp16", "-Wno-unknown-attributes"];
    let output_type = if name == "indices" { "-DUINT_OUTPUT" } else { "-DT_OUTPUT" };
    let output = Command::new(compiler).args(options).arg(output_type).arg(&file).output().unwrap();
    fs::remove_file(&file).unwrap();
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
}

/// clang for x86-64, which knows both `_Float16` and address spaces.
fn find_clang() -> Option<&'static str> {
    let candidates = ["clang++", "clang++-19", "clang++-18", "clang++-17", "clang++-16", "clang++-15", "clang++-14"];
    let works = |compiler: &&str| Command::new(compiler).arg("--version").output().is_ok_and(|o| o.status.success());
    candidates.into_iter().filter(|_| cfg!(target_arch = "x86_64")).find(works)
}

#[test]
fn clang_agrees_about_address_spaces() {
    let Some(compiler) = find_clang() else {
        eprintln!("not checked: there is no clang++ here (on Debian: apt-get install clang)");
        return;
    };
    for (name, kernel) in kernels() {
        clang(compiler, &name, &kernel).unwrap_or_else(|message| panic!("{name}: {message}"));
    }
    // And it would tell if one were wrong.
    let wrong = [
        "device float* p = floats; threadgroup float* q = p;",
        "threadgroup float s[4]; device float* p = s;",
        "auto f = [](threadgroup float* p) { return p[0]; }; f(floats);",
        "device float& x = floats[0]; thread float& y = x;",
    ];
    for body in wrong {
        let kernel = GpuKernel { name: "wrong", inputs: &[], outputs: &[], header: "", body, strided: false };
        let message = clang(compiler, "wrong", &kernel).expect_err(body);
        let is_about_spaces =
            ["'threadgroup float", "'device float", "address space"].iter().any(|part| message.contains(part));
        assert!(is_about_spaces, "{body}: {message}");
    }
}
