//! `.cargo/mlx.toml`: the table that takes the place of mlx-sys's build script.

use std::fs;
use std::path::{Path, PathBuf};

use crate::layout::{Layout, write_if_changed};
use crate::{Backend, Error};

const FILE: &str = ".cargo/mlx.toml";
const BACKEND_KEY: &str = "backend = ";
const FOLDER_KEY: &str = "folder = ";
const INCLUDE_KEY: &str = "include = ";
/// A header by which mlx-c's folder is known; crates/mlx-custom compiles against it.
const MLX_C_HEADER: &str = "mlx/c/private/array.h";

/// Cargo's name of the machine that this program was built for, which is the one that it runs on.
const TARGET: &str =
    if cfg!(target_arch = "aarch64") { "aarch64-unknown-linux-gnu" } else { "x86_64-unknown-linux-gnu" };

pub(crate) fn write(workspace: &Path, backend: Backend, layout: &Layout, mlx_c: &Path) -> Result<(), Error> {
    write_if_changed(&workspace.join(FILE), &text(backend, layout, mlx_c))
}

fn text(backend: Backend, layout: &Layout, mlx_c: &Path) -> String {
    // Every key that Cargo does not know (backend, folder, include) reaches crates that depend on
    // mlx-sys directly as DEP_MLX_<KEY>. `include` is a path list, as mlx-sys itself publishes it on macOS.
    format!(
        "# Written by `cargo xtask setup`; run it again instead of editing.\n\
         [target.{TARGET}.mlx]\n\
         rustc-link-search = [{search}]\n\
         rustc-link-lib = [\"dylib=tiny_llm_mlx\"]\n\
         rustc-env = {{ OUT_DIR = {bindings} }}\n\
         {INCLUDE_KEY}{include}\n\
         {FOLDER_KEY}{folder}\n\
         {BACKEND_KEY}{backend}\n",
        search = quote(&format!("native={}", layout.library_folder().display())),
        bindings = quote(&layout.bindings().display().to_string()),
        include = quote(&format!("{}:{}", layout.include().display(), mlx_c.display())),
        folder = quote(&layout.folder.display().to_string()),
        backend = quote(backend.name()),
    )
}

/// The backend and folder that this clone was set up with.
pub(crate) fn read(workspace: &Path) -> Option<(Backend, PathBuf)> {
    Some((value(workspace, BACKEND_KEY)?.parse().ok()?, PathBuf::from(value(workspace, FOLDER_KEY)?)))
}

/// Whether the file leads to the headers of MLX and of mlx-c. A file of an older version of the course names MLX's
/// alone, and mlx-c's move with the folder in which Cargo keeps its sources.
pub(crate) fn leads_to_headers(workspace: &Path) -> bool {
    let Some(include) = value(workspace, INCLUDE_KEY) else { return false };
    ["mlx/array.h", MLX_C_HEADER].iter().all(|header| include.split(':').any(|f| Path::new(f).join(header).is_file()))
}

fn value(workspace: &Path, key: &str) -> Option<String> {
    let text = fs::read_to_string(workspace.join(FILE)).ok()?;
    text.lines().find_map(|line| line.strip_prefix(key)).map(unquote)
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
        write(&workspace, Backend::Cuda12, &layout, Path::new("/sources/mlx-c")).unwrap();
        assert_eq!(read(&workspace), Some((Backend::Cuda12, layout.folder)));
        fs::remove_dir_all(&workspace).unwrap();
    }

    #[test]
    fn headers_are_found_in_every_folder_of_the_list() {
        let workspace = std::env::temp_dir().join(format!("mlx-setup-headers-{}", std::process::id()));
        let layout = Layout::at(workspace.join("installed"));
        let mlx_c = workspace.join("mlx-c");
        write(&workspace, Backend::Cpu, &layout, &mlx_c).unwrap();
        assert!(!leads_to_headers(&workspace), "no header is there yet");
        for header in [layout.include().join("mlx/array.h"), mlx_c.join(MLX_C_HEADER)] {
            fs::create_dir_all(header.parent().unwrap()).unwrap();
            fs::write(header, "").unwrap();
        }
        assert!(leads_to_headers(&workspace));

        // What an older version of the course wrote: one folder.
        let old = text(Backend::Cpu, &layout, &mlx_c).replace(&format!(":{}", mlx_c.display()), "");
        fs::write(workspace.join(FILE), old).unwrap();
        assert!(!leads_to_headers(&workspace));
        fs::remove_dir_all(&workspace).unwrap();
    }

    #[test]
    fn a_clone_without_setup_reads_as_none() {
        assert_eq!(read(Path::new("/nonexistent")), None);
        assert!(!leads_to_headers(Path::new("/nonexistent")));
    }
}
