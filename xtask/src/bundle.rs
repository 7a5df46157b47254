//! `cargo xtask bundle`: the engine, and the tests and benchmarks of GPU kernels, for a machine that has only a GPU.
//!
//! Programs are built with the MLX that this clone uses; the bundle carries that of the backend asked for, which is the same
//! version. Programs find their libraries relative to their own folder (see [`crate::bundle_elf`]).

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use crate::bench;
use crate::bundle_contents::{BENCHES, Contents, ENGINE, GPU_DAYS, Item, Kind, MLX_CUSTOM_TEST, entries, relative};
use crate::bundle_elf;
use crate::bundle_needs::Needs;
use crate::bundle_options::Options;
use crate::bundle_pack;
use crate::cargo::{self, Binary, Built, Progress};
use crate::chapters::Course;
use crate::error::{Error, Result};
use crate::exit_code::Verdict;
use crate::process;
use crate::say;
use crate::setup;
use crate::tell;
use crate::workspace::{Solution, Workspace, write_text};

const NAME: &str = "tiny-llm-bundle";
const RUN: &str = include_str!("../bundle/run");
/// What `run` reads, in `scripts/`.
const SCRIPTS: [(&str, &str); 3] = [
    ("libraries.sh", include_str!("../bundle/libraries.sh")),
    ("test_programs.sh", include_str!("../bundle/test_programs.sh")),
    ("sanitizer.sh", include_str!("../bundle/sanitizer.sh")),
];
const README: &str = include_str!("../bundle/README.txt");

/// `cargo xtask bundle`.
pub fn run(workspace: &Workspace, arguments: &[String]) -> Result<Verdict> {
    let options = Options::parse(arguments)?;
    if !cfg!(target_os = "linux") {
        return Err(Error::new("a bundle is made on Linux, for Linux"));
    }
    bundle_pack::check_tools()?;
    let course = Course::load(workspace)?;
    setup::ensure_linkable(workspace)?;
    let wheels = mlx_setup::wheels_to_carry(options.backend, &mut |step| tell!("setup: {step}"))
        .map_err(|error| Error::new(error.to_string()))?;

    let binaries = build(workspace, &course)?;
    let contents = contents(workspace, &options, &binaries, &wheels)?;
    let stage = workspace.target().join("bundle-stage");
    let folder = stage.join(NAME);
    lay_out(&folder, &contents)?;
    let needs = Needs::of(&folder)?;
    let manifest = contents.manifest(options.backend, &bench::commit(workspace), &needs);
    write_text(&folder.join("manifest.txt"), &manifest)?;

    let output = options.output.clone().unwrap_or_else(|| workspace.target().join("bundle"));
    let archive = format!("{NAME}-{}-{}.tar.xz", options.backend, std::env::consts::ARCH);
    tell!("bundle: compressing, which takes some minutes");
    let parts = bundle_pack::pack(&stage, NAME, &output, &archive, options.max_part_bytes)?;
    let mut total = 0;
    for part in &parts {
        let bytes = fs::metadata(part).map_err(|e| Error::io("look at", part, &e))?.len();
        say!("{:7.1} MiB  {}", mebibytes(bytes), part.display());
        total += bytes;
    }
    say!("{:7.1} MiB  together", mebibytes(total));
    if !needs.nvidia.is_empty() {
        say!("The other machine must have {}", needs.nvidia.join(" "));
    }
    say!("Copy them with SHA256SUMS and join.sh to the other machine, and there run");
    say!("  sh join.sh && {NAME}/run check && {NAME}/run tests");
    Ok(Verdict::Passed)
}

fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / (1 << 20) as f64
}

/// Builds all programs in one call, so that they share one build of every library.
fn build(workspace: &Workspace, course: &Course) -> Result<Vec<Binary>> {
    let mut command = cargo::command(workspace.root());
    command.args(["build", "--release", "--message-format", "json"]);
    for package in ["tiny-llm-cli", "mlx-custom", Solution::Reference.tests_package()] {
        command.args(["--package", package]);
    }
    command.args(["--bin", ENGINE]);
    for bench in BENCHES {
        command.args(["--example", bench]);
    }
    let days = course.chapters.iter().filter(|chapter| GPU_DAYS.contains(&chapter.id.as_str()));
    for test in [MLX_CUSTOM_TEST].into_iter().chain(days.map(|day| day.test.as_str())) {
        command.args(["--test", test]);
    }
    match cargo::build(command, Progress::Shown)? {
        Built::Binaries(binaries) => Ok(binaries),
        Built::Errors(errors) => {
            for error in errors {
                tell!("{}\n", error.rendered);
            }
            Err(Error::new("the bundle's programs do not compile"))
        }
    }
}

fn contents(workspace: &Workspace, options: &Options, binaries: &[Binary], wheels: &Path) -> Result<Contents> {
    let root = workspace.root();
    let mut contents = Contents::default();
    let mut libraries = BTreeSet::new();
    for binary in binaries {
        contents.add_program(binary, root)?;
        let file = fs::read(&binary.path).map_err(|e| Error::io("read", &binary.path, &e))?;
        let named = bundle_elf::absolute_libraries(&file).map_err(|e| of_file(&binary.path, &e))?;
        libraries.extend(named);
    }
    for library in &libraries {
        contents.add_library(library)?;
    }
    contents.add_wheels(wheels, options.backend)?;

    contents.add_test_data(&workspace.fixtures(), &root.join("crates/mlx-custom"))?;
    contents.add(Kind::Data, &workspace.reference().join("src/kernels"), "kernels")?;
    for name in ["LICENSE-MIT", "LICENSE-APACHE"] {
        contents.add(Kind::Data, &root.join(name), Path::new("licenses/tiny-llm").join(name))?;
    }
    for entry in entries(wheels)? {
        let name = entry.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let texts = entry.join("licenses");
        // NVIDIA's wheels may be beside MLX's, and are not in the bundle.
        if let Some(wheel) = name.strip_suffix(".dist-info").filter(|name| !name.starts_with("nvidia"))
            && texts.is_dir()
        {
            contents.add(Kind::Data, &texts, Path::new("licenses").join(wheel))?;
        }
    }

    let cache = wheel_fetch::cache_dir().ok();
    for model in &options.models {
        let engine = binaries.iter().find(|binary| binary.name == ENGINE);
        let engine = engine.ok_or_else(|| Error::new(format!("cargo built no binary called {ENGINE}")))?;
        let place = contents.add_model(&bench::model_path(&engine.path, model)?, cache.as_deref())?;
        tell!("bundle: {model} is in {}", place.display());
    }
    Ok(contents)
}

/// Makes the folder that becomes the archive. Data is linked to, for the archive holds what links lead to.
fn lay_out(folder: &Path, contents: &Contents) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(Error::io("remove", folder, &error)),
        _ => {}
    }
    for item in &contents.items {
        let place = folder.join(&item.place);
        let parent = place.parent().unwrap_or(folder);
        fs::create_dir_all(parent).map_err(|e| Error::io("create", parent, &e))?;
        match item.kind {
            Kind::Data => {
                let source = fs::canonicalize(&item.source).map_err(|e| Error::io("find", &item.source, &e))?;
                symlink(source, &place).map_err(|e| Error::io("link to", &place, &e))?;
            }
            Kind::Library => {
                fs::copy(&item.source, &place).map_err(|e| Error::io("copy", &item.source, &e))?;
                make_movable(&place)?;
            }
            Kind::Program => {
                strip(item, &place)?;
                make_movable(&place)?;
            }
        }
    }
    write_text(&folder.join("README.txt"), README)?;
    write_scripts(folder)
}

/// Writes `run` and what belongs to it.
///
/// # Errors
/// `folder` cannot be written.
pub fn write_scripts(folder: &Path) -> Result<()> {
    for (name, text) in SCRIPTS {
        write_text(&folder.join("scripts").join(name), text)?;
    }
    let run = folder.join("run");
    write_text(&run, RUN)?;
    fs::set_permissions(&run, fs::Permissions::from_mode(0o755)).map_err(|e| Error::io("make executable", &run, &e))
}

/// Copies a program without its debug information; names of functions stay, for profilers and backtraces.
fn strip(item: &Item, place: &Path) -> Result<()> {
    let finished = process::output(Command::new("strip").arg("--strip-debug").arg("-o").arg(place).arg(&item.source))?;
    match finished.succeeded() {
        true => Ok(()),
        false => Err(Error::new(format!("strip failed: {}", finished.stderr.trim()))),
    }
}

fn make_movable(path: &Path) -> Result<()> {
    let mut file = fs::read(path).map_err(|e| Error::io("read", path, &e))?;
    bundle_elf::rewrite(&mut file, relative).map_err(|e| of_file(path, &e))?;
    fs::write(path, file).map_err(|e| Error::io("write", path, &e))
}

fn of_file(path: &Path, error: &Error) -> Error {
    Error::new(format!("{}: {error}", path.display()))
}
