//! `.cargo/mlx.toml`: the table that takes the place of mlx-sys's build script.

use std::fs;
use std::path::{Path, PathBuf};

use crate::layout::{Layout, write_if_changed};
use crate::{Backend, Error};

const FILE: &str = ".cargo/mlx.toml";
const BACKEND_KEY: &str = "backend = ";
const FOLDER_KEY: &str = "folder = ";

/// Cargo's name of the machine that this program was built for, which is the one that it runs on.
const TARGET: &str =
    if cfg!(target_arch = "aarch64") { "aarch64-unknown-linux-gnu" } else { "x86_64-unknown-linux-gnu" };

pub(crate) fn write(workspace: &Path, backend: Backend, layout: &Layout) -> Result<(), Error> {
    write_if_changed(&workspace.join(FILE), &text(backend, layout))
}

fn text(backend: Backend, layout: &Layout) -> String {
    // Every key that Cargo does not know (backend, folder, include) reaches crates that depend on
    // mlx-sys directly as DEP_MLX_<KEY>.
    format!(
        "# Written by `cargo xtask setup`; run it again instead of editing.\n\
         [target.{TARGET}.mlx]\n\
         rustc-link-search = [{search}]\n\
         rustc-link-lib = [\"dylib=tiny_llm_mlx\"]\n\
         rustc-env = {{ OUT_DIR = {bindings} }}\n\
         include = {include}\n\
         {FOLDER_KEY}{folder}\n\
         {BACKEND_KEY}{backend}\n",
        search = quote(&format!("native={}", layout.library_folder().display())),
        bindings = quote(&layout.bindings().display().to_string()),
        include = quote(&layout.include().display().to_string()),
        folder = quote(&layout.folder.display().to_string()),
        backend = quote(backend.name()),
    )
}

/// The backend and folder that this clone was set up with.
pub(crate) fn read(workspace: &Path) -> Option<(Backend, PathBuf)> {
    let text = fs::read_to_string(workspace.join(FILE)).ok()?;
    let value = |key: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(key))?;
        Some(unquote(line))
    };
    Some((value(BACKEND_KEY)?.parse().ok()?, PathBuf::from(value(FOLDER_KEY)?)))
}

/// A TOML basic string.
fn quote(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

fn unquote(text: &str) -> String {
    text.trim().trim_matches('"').replace("\\\"", "\"").replace("\\\\", "\\")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_can_be_read() {
        let workspace = std::env::temp_dir().join(format!("mlx-setup-config-{}", std::process::id()));
        let layout = Layout::at(PathBuf::from("/somewhere/with \"quotes\"/mlx"));
        write(&workspace, Backend::Cuda12, &layout).unwrap();
        assert_eq!(read(&workspace), Some((Backend::Cuda12, layout.folder)));
        fs::remove_dir_all(&workspace).unwrap();
    }

    #[test]
    fn a_clone_without_setup_reads_as_none() {
        assert_eq!(read(Path::new("/nonexistent")), None);
    }
}
