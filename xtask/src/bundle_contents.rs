//! What a bundle holds: a list of files and folders, each with its place below the bundle's folder.
//!
//! Programs lie one level deep, so that `$ORIGIN/../lib` means the same for each of them. `wheels/` repeats the layout in which
//! pip installs MLX: its libraries find one another, NVIDIA's wheels, and the headers for kernels through it.

use std::fs;
use std::path::{Path, PathBuf};

use mlx_setup::{Backend, MLX_VERSION};

use crate::bundle_elf::Entry;
use crate::bundle_needs::Needs;
use crate::cargo::Binary;
use crate::error::{Error, Result};

/// The engine's binary.
pub const ENGINE: &str = "tiny-llm";
/// What a start of a kernel costs: an example of crates/mlx-custom.
const LAUNCH_COST: &str = "launch_cost";
/// Examples that are benchmarks of kernels, as Cargo's `--example` takes them: those of crates/cli begin with `gpu_`.
pub const BENCHES: [&str; 2] = ["gpu_*", LAUNCH_COST];
/// The test of crates/mlx-custom that starts kernels on a GPU.
pub const MLX_CUSTOM_TEST: &str = "gpu";
/// Sources that this test reads when it runs, below the folder of its package.
const MLX_CUSTOM_KERNELS: &str = "tests/gpu/kernels";
/// The days whose tests start kernels on a GPU; a bundle has those that the course has.
pub const GPU_DAYS: [&str; 2] = ["2.3", "2.5"];

/// How something gets its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Made free of debug information, and its libraries are looked for in the bundle.
    Program,
    /// Its libraries are looked for in the bundle.
    Library,
    /// A file or a folder, as it is.
    Data,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    pub source: PathBuf,
    /// Relative to the bundle's folder.
    pub place: PathBuf,
    pub kind: Kind,
}

#[derive(Debug, Default)]
pub struct Contents {
    pub items: Vec<Item>,
}

impl Contents {
    /// Adds something. The same twice is once.
    ///
    /// # Errors
    /// Something else has this place.
    pub fn add(&mut self, kind: Kind, source: &Path, place: impl AsRef<Path>) -> Result<()> {
        let item = Item { source: source.to_owned(), place: place.as_ref().to_owned(), kind };
        match self.items.iter().find(|known| known.place == item.place) {
            None => self.items.push(item),
            Some(known) if *known == item => {}
            Some(known) => {
                let (first, second) = (known.source.display(), source.display());
                let place = item.place.display();
                return Err(Error::new(format!("{first} and {second} would both be `{place}` in the bundle")));
            }
        }
        Ok(())
    }

    /// Adds a program under `bin/`, `tests/` or `benches/`.
    pub fn add_program(&mut self, binary: &Binary, root: &Path) -> Result<()> {
        let is_cli = binary.package == root.join("crates/cli");
        let folder = match binary.name.as_str() {
            ENGINE if is_cli => "bin",
            LAUNCH_COST => "benches",
            _ if is_cli => "benches",
            _ => "tests",
        };
        self.add(Kind::Program, &binary.path, Path::new(folder).join(&binary.name))
    }

    /// Adds a library that a program names by absolute path.
    pub fn add_library(&mut self, path: &str) -> Result<()> {
        let path = Path::new(path);
        self.add(Kind::Library, path, Path::new("lib").join(path.file_name().unwrap_or_default()))
    }

    /// Adds what programs need of the wheels at run time.
    pub fn add_wheels(&mut self, wheels: &Path, backend: Backend) -> Result<()> {
        let repaired = match backend {
            Backend::Cpu => "mlx_cpu.libs",
            Backend::Cuda12 => "mlx_cuda_12.libs",
            Backend::Cuda13 => "mlx_cuda_13.libs",
        };
        let mut names = vec!["mlx/lib/libmlx.so", "scipy_openblas32/lib/libscipy_openblas.so", repaired];
        if backend != Backend::Cpu {
            // MLX compiles kernels where they run, with these headers and the CUDA toolkit's: ours with the first, its
            // own products with quantized matrices with all three.
            names.extend(["mlx/include/cccl", "mlx/include/cute", "mlx/include/cutlass"]);
        }
        for name in names {
            let source = wheels.join(name);
            if !source.exists() {
                return Err(Error::new(format!("{} is not there", source.display()))
                    .remedy(format!("delete {} and run it again", wheels.display())));
            }
            self.add(Kind::Data, &source, Path::new("wheels").join(name))?;
        }
        Ok(())
    }

    /// Adds the files that tests read: expected numbers, and kernels.
    pub fn add_test_data(&mut self, fixtures: &Path, mlx_custom: &Path) -> Result<()> {
        for entry in entries(fixtures)? {
            // Scripts and what they need; programs read what they made.
            let name = entry.file_name().unwrap_or_default();
            if name != "generate" {
                self.add(Kind::Data, &entry, Path::new("fixtures").join(name))?;
            }
        }
        let place = Path::new("mlx-custom").join(MLX_CUSTOM_KERNELS);
        self.add(Kind::Data, &mlx_custom.join(MLX_CUSTOM_KERNELS), place)
    }

    /// Adds a model's file or folder; one that lies in the cache folder is found there by its name.
    pub fn add_model(&mut self, model: &Path, cache: Option<&Path>) -> Result<PathBuf> {
        let in_cache = cache.and_then(|cache| model.strip_prefix(cache.join("models")).ok());
        let (source, place) = match in_cache.and_then(|path| path.components().next()) {
            Some(first) => {
                let place = Path::new("cache/models").join(first);
                let cache = cache.unwrap_or(Path::new(""));
                (cache.join("models").join(first), place)
            }
            None => (model.to_owned(), Path::new("models").join(model.file_name().unwrap_or_default())),
        };
        self.add(Kind::Data, &source, &place)?;
        Ok(place)
    }

    pub fn names_in(&self, folder: &str) -> Vec<String> {
        let places = self.items.iter().filter_map(|item| item.place.strip_prefix(folder).ok());
        let mut names: Vec<String> = places.map(|place| place.display().to_string()).collect();
        names.sort();
        names
    }

    /// The file `manifest.txt`: `run` reads backend, architecture and NVIDIA's libraries from it, people the rest.
    pub fn manifest(&self, backend: Backend, commit: &str, needs: &Needs) -> String {
        let mut text = format!(
            "backend: {backend}\narchitecture: {}\nmlx: {MLX_VERSION}\ncommit: {commit}\nnvidia: {}\nsystem: {}\n",
            std::env::consts::ARCH,
            words(&needs.nvidia),
            words(&needs.system),
        );
        for folder in ["tests", "benches", "lib", "models", "cache/models"] {
            text.push_str(&format!("{folder}: {}\n", words(&self.names_in(folder))));
        }
        text
    }
}

fn words(names: &[String]) -> String {
    if names.is_empty() { "-".to_owned() } else { names.join(" ") }
}

/// What a folder holds, in the order of the names.
pub fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let listed = fs::read_dir(folder).map_err(|e| Error::io("list", folder, &e))?;
    let paths = listed.map(|entry| entry.map(|entry| entry.path())).collect::<std::io::Result<Vec<_>>>();
    let mut paths = paths.map_err(|e| Error::io("list", folder, &e))?;
    paths.sort();
    Ok(paths)
}

/// The text of an entry of the dynamic section as it must be in a bundle, for a file in `bin/`, `tests/`, `benches/` or `lib/`.
pub fn relative(entry: Entry, text: &str) -> Option<String> {
    let is_absolute = text.starts_with('/');
    let name = text.rsplit_once('/').map_or(text, |(_, name)| name);
    match entry {
        Entry::Needed if is_absolute => Some(format!("$ORIGIN/../lib/{name}")),
        Entry::Soname if is_absolute => Some(name.to_owned()),
        // The only absolute run path is that to MLX's wheel.
        Entry::RunPath if is_absolute => Some("$ORIGIN/../wheels/mlx/lib".to_owned()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn binary(name: &str, package: &str) -> Binary {
        let path = PathBuf::from(format!("/w/target/release/deps/{name}-0123"));
        Binary { name: name.to_owned(), path, package: PathBuf::from(package) }
    }

    fn places(contents: &Contents) -> Vec<String> {
        contents.items.iter().map(|item| item.place.display().to_string()).collect()
    }

    #[test]
    fn programs_and_libraries_have_their_folders() {
        let root = Path::new("/w");
        let mut contents = Contents::default();
        contents.add_program(&binary("tiny-llm", "/w/crates/cli"), root).unwrap();
        contents.add_program(&binary("gpu_matmul", "/w/crates/cli"), root).unwrap();
        contents.add_program(&binary("launch_cost", "/w/crates/mlx-custom"), root).unwrap();
        contents.add_program(&binary("gpu", "/w/crates/mlx-custom"), root).unwrap();
        contents.add_program(&binary("week2_day3", "/w/tests/reference"), root).unwrap();
        contents.add_library("/home/a/lib/libx.so").unwrap();
        contents.add_library("/home/a/lib/libx.so").unwrap();
        assert_eq!(
            places(&contents),
            [
                "bin/tiny-llm",
                "benches/gpu_matmul",
                "benches/launch_cost",
                "tests/gpu",
                "tests/week2_day3",
                "lib/libx.so"
            ]
        );

        let needs = Needs { nvidia: vec!["libcuda.so.1".to_owned(), "libnccl.so.2".to_owned()], system: Vec::new() };
        let manifest = contents.manifest(Backend::Cuda13, "abc", &needs);
        assert!(manifest.starts_with("backend: cuda13\n"), "{manifest}");
        assert!(manifest.contains("\nnvidia: libcuda.so.1 libnccl.so.2\nsystem: -\n"), "{manifest}");
        let files = "\ntests: gpu week2_day3\nbenches: gpu_matmul launch_cost\nlib: libx.so\nmodels: -\n";
        assert!(manifest.contains(files), "{manifest}");

        let message = contents.add_library("/home/b/lib/libx.so").unwrap_err().to_string();
        assert!(message.ends_with("would both be `lib/libx.so` in the bundle"), "{message}");
    }

    #[test]
    fn a_model_of_the_cache_stays_findable_by_name() {
        let mut contents = Contents::default();
        let cache = Path::new("/home/a/.cache/tiny-llm");
        let built_in = cache.join("models/smollm2-0.1/pkg/model.gguf");
        assert_eq!(contents.add_model(&built_in, Some(cache)).unwrap(), Path::new("cache/models/smollm2-0.1"));
        assert_eq!(contents.items[0].source, cache.join("models/smollm2-0.1"));
        assert_eq!(contents.add_model(Path::new("/m/qwen"), Some(cache)).unwrap(), Path::new("models/qwen"));
        assert_eq!(contents.add_model(Path::new("/m/x.gguf"), None).unwrap(), Path::new("models/x.gguf"));
    }

    #[test]
    fn a_wheel_that_is_incomplete_is_named() {
        let message = Contents::default().add_wheels(Path::new("/nowhere"), Backend::Cuda13).unwrap_err().to_string();
        assert_eq!(message, "/nowhere/mlx/lib/libmlx.so is not there; delete /nowhere and run it again");
    }

    #[test]
    fn headers_for_kernels_are_there_with_cuda_and_only_then() {
        let wheels = std::env::temp_dir().join(format!("xtask-bundle-wheels-{}", std::process::id()));
        let headers = ["mlx/include/cccl", "mlx/include/cute", "mlx/include/cutlass"];
        let others = ["mlx/lib/libmlx.so", "scipy_openblas32/lib/libscipy_openblas.so", "mlx_cpu.libs"];
        for name in headers.iter().chain(&others).chain(&["mlx_cuda_13.libs"]) {
            fs::create_dir_all(wheels.join(name)).unwrap();
        }
        let places_for = |backend| {
            let mut contents = Contents::default();
            contents.add_wheels(&wheels, backend).map(|()| places(&contents).join(" "))
        };
        let (cuda, cpu) = (places_for(Backend::Cuda13).unwrap(), places_for(Backend::Cpu).unwrap());
        assert!(headers.iter().all(|name| cuda.contains(&format!("wheels/{name}"))), "{cuda}");
        assert!(!cpu.contains("include"), "{cpu}");
        fs::remove_dir_all(wheels.join(headers[2])).unwrap();
        let message = places_for(Backend::Cuda13).unwrap_err().to_string();
        assert!(message.contains("cutlass is not there"), "{message}");
        fs::remove_dir_all(&wheels).unwrap();
    }

    #[test]
    fn only_absolute_paths_change() {
        let new = |entry, text| relative(entry, text);
        assert_eq!(new(Entry::Needed, "/a/b/libx.so").as_deref(), Some("$ORIGIN/../lib/libx.so"));
        assert_eq!(new(Entry::Soname, "/a/b/libx.so").as_deref(), Some("libx.so"));
        assert_eq!(new(Entry::RunPath, "/cache/wheels/mlx/lib").as_deref(), Some("$ORIGIN/../wheels/mlx/lib"));
        assert_eq!(new(Entry::RunPath, "$ORIGIN/../wheels/mlx/lib"), None);
        assert_eq!(new(Entry::Needed, "libc.so.6"), None);
    }
}
