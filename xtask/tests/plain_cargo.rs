//! What plain Cargo does in a clone, before `cargo xtask setup` has run and after it.
#![cfg(all(target_os = "linux", target_env = "gnu"))]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// A crate in the place of mlx-sys: the same `links`, the same way to include its bindings, and a build script that fails.
fn stand_in() -> tempfile_folder::Folder {
    let folder = tempfile_folder::Folder::new("plain-cargo");
    let write = |file: &str, text: &str| {
        let path = folder.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    write(
        "Cargo.toml",
        "[package]\nname = \"mlx-sys\"\nversion = \"0.0.0\"\nedition = \"2024\"\nlinks = \"mlx\"\nbuild = \"build.rs\"\n\n[workspace]\n",
    );
    write("build.rs", "fn main() {\n    panic!(\"is `cmake` not installed?\");\n}\n");
    write("src/lib.rs", "include!(concat!(env!(\"OUT_DIR\"), \"/bindings.rs\"));\n");
    write("bindings/bindings.rs", "pub const BOUND: bool = true;\n");
    for file in ["config.toml", "before-setup.toml"] {
        write(&format!(".cargo/{file}"), &fs::read_to_string(workspace().join(".cargo").join(file)).unwrap());
    }
    folder
}

fn check(folder: &Path) -> (bool, String) {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["check", "--offline"]).current_dir(folder).env("CARGO_TARGET_DIR", folder.join("target"));
    let output = cargo.output().unwrap();
    (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn before_setup_the_compiler_says_what_to_run_and_after_it_compiles() {
    let folder = stand_in();
    let (is_fine, text) = check(folder.path());
    assert!(!is_fine && text.contains("MLX is not set up in this clone: run \"cargo xtask setup\" once"), "{text}");
    assert!(!text.contains("cmake"), "{text}");

    // What setup writes wins over what is committed.
    let triple = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let bindings = folder.path().join("bindings");
    let table = format!("[target.{triple}.mlx]\nrustc-env = {{ OUT_DIR = \"{}\" }}\n", bindings.display());
    fs::write(folder.path().join(".cargo/mlx.toml"), table).unwrap();
    let (is_fine, text) = check(folder.path());
    assert!(is_fine, "{text}");
    let (is_fine, text) = check(folder.path());
    assert!(is_fine && !text.contains("Checking"), "nothing is left to do: {text}");
}

#[test]
fn the_runner_has_a_folder_and_a_lock_of_its_own() {
    let config = fs::read_to_string(workspace().join(".cargo/config.toml")).unwrap();
    let alias = config.lines().find_map(|line| line.strip_prefix("xtask = ")).unwrap();
    assert!(alias.contains("--profile runner "), "{alias}");
    let manifest = fs::read_to_string(workspace().join("Cargo.toml")).unwrap();
    assert!(manifest.contains("[profile.runner]\n"));
}

/// A folder that vanishes with its value.
mod tempfile_folder {
    use std::path::{Path, PathBuf};

    pub struct Folder(PathBuf);

    impl Folder {
        pub fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("xtask-{name}-{}", std::process::id()));
            std::fs::create_dir_all(&path).unwrap();
            Self(path.canonicalize().unwrap())
        }

        pub fn path(&self) -> &Path {
            &self.0
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }
}
