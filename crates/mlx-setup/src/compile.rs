//! Compiling mlx-c and our additions into one shared library.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::thread;

use crate::Error;
use crate::layout::{FORMAT_STANDIN, Layout, OWN_SOURCES, write_if_changed};

const INSTALL_A_COMPILER: &str = "a C++20 compiler is needed (GCC 11 or newer, or Clang 14 or newer): \
     Debian/Ubuntu `apt install g++`, Fedora `dnf install gcc-c++`; or set CXX";

/// Compiles every source that has no object file yet, then links.
pub(crate) fn shared_library(layout: &Layout, mlx_c: &Path, report: &mut dyn FnMut(&str)) -> Result<(), Error> {
    let compiler = find_compiler()?;
    let objects = layout.objects();
    fs::create_dir_all(&objects).map_err(|e| Error::io("create", &objects, e))?;
    let own = layout.folder.join("native");
    write_if_changed(&own.join(FORMAT_STANDIN.0), FORMAT_STANDIN.1)?;

    let mut sources = mlx_c_sources(mlx_c)?;
    for (name, text) in OWN_SOURCES {
        let path = own.join(name);
        write_if_changed(&path, text)?;
        sources.push(path);
    }
    let jobs = unity_jobs(&sources, &own, &objects)?;
    let missing: Vec<&Job> = jobs.iter().filter(|job| !job.object.is_file()).collect();
    report(&format!("compiling mlx-c ({} parts, less than a minute)", jobs.len()));

    let mut arguments: Vec<OsString> = ["-std=gnu++20", "-O2", "-fPIC", "-w", "-include"].map(OsString::from).into();
    arguments.push(own.join(FORMAT_STANDIN.0).into());
    for include in [layout.include(), mlx_c.to_owned()] {
        arguments.push("-I".into());
        arguments.push(include.into());
    }
    compile_all(&compiler, &arguments, &missing, report)?;
    link(&compiler, layout, &jobs)
}

struct Job {
    source: PathBuf,
    object: PathBuf,
}

/// One job per processor, each a file that includes its share of the sources: nearly all the time goes into
/// MLX's headers, which this way are read once a job and not once a source.
fn unity_jobs(sources: &[PathBuf], folder: &Path, objects: &Path) -> Result<Vec<Job>, Error> {
    let n_jobs = thread::available_parallelism().map_or(1, usize::from).min(8);
    let mut jobs = Vec::new();
    for (job_idx, share) in sources.chunks(sources.len().div_ceil(n_jobs)).enumerate() {
        let source = folder.join(format!("part_{job_idx}_of_{n_jobs}.cpp"));
        let text: String = share.iter().map(|path| format!("#include \"{}\"\n", path.display())).collect();
        write_if_changed(&source, &text)?;
        let object = objects.join(format!("part_{job_idx}_of_{n_jobs}.o"));
        jobs.push(Job { source, object });
    }
    Ok(jobs)
}

impl Job {
    fn run(&self, compiler: &OsString, arguments: &[OsString]) -> Result<(), Error> {
        // Renamed when whole, so that an interrupted run leaves no half object.
        let partial = self.object.with_extension("partial");
        let output = Command::new(compiler)
            .args(arguments)
            .arg("-c")
            .arg(&self.source)
            .arg("-o")
            .arg(&partial)
            .stdin(Stdio::null())
            .output()
            .map_err(|_| Error::Compiler(INSTALL_A_COMPILER.into()))?;
        if !output.status.success() {
            return Err(compile_error(&self.source.display().to_string(), &output.stderr));
        }
        fs::rename(&partial, &self.object).map_err(|e| Error::io("rename", &partial, e))
    }
}

fn compile_all(
    compiler: &OsString,
    arguments: &[OsString],
    jobs: &[&Job],
    report: &mut dyn FnMut(&str),
) -> Result<(), Error> {
    let queue = Mutex::new(jobs.iter());
    let (sender, finished) = std::sync::mpsc::channel();
    let workers = thread::available_parallelism().map_or(1, usize::from).min(jobs.len());
    thread::scope(|scope| {
        for _ in 0..workers {
            let sender = sender.clone();
            let queue = &queue;
            scope.spawn(move || {
                // A poisoned lock means that another worker died; there is nothing left to share.
                while let Some(job) = queue.lock().ok().and_then(|mut jobs| jobs.next()) {
                    let outcome = job.run(compiler, arguments);
                    let failed = outcome.is_err();
                    if sender.send(outcome).is_err() || failed {
                        break;
                    }
                }
            });
        }
        drop(sender);
        let mut first_error = None;
        for (n_done, outcome) in finished.iter().enumerate() {
            report(&format!("  part {} of {} done", n_done + 1, jobs.len()));
            if let Err(error) = outcome {
                first_error.get_or_insert(error);
            }
        }
        first_error.map_or(Ok(()), Err)
    })
}

fn link(compiler: &OsString, layout: &Layout, jobs: &[Job]) -> Result<(), Error> {
    let folder = layout.library_folder();
    fs::create_dir_all(&folder).map_err(|e| Error::io("create", &folder, e))?;
    let library = layout.library();
    let partial = library.with_extension("partial");
    let mut soname = OsString::from("-Wl,-soname,");
    soname.push(&library);
    let output = Command::new(compiler)
        .args(["-shared", "-Wl,--no-as-needed"])
        .arg(soname)
        .args(jobs.iter().map(|job| &job.object))
        .arg(format!("-L{}", layout.wheels().join("mlx/lib").display()))
        .arg(format!("-L{}", layout.wheels().join("scipy_openblas32/lib").display()))
        .args(["-lmlx", "-lscipy_openblas"])
        .arg("-Wl,-rpath,$ORIGIN/../wheels/mlx/lib:$ORIGIN/../wheels/scipy_openblas32/lib")
        .arg("-o")
        .arg(&partial)
        .stdin(Stdio::null())
        .output()
        .map_err(|_| Error::Compiler(INSTALL_A_COMPILER.into()))?;
    if !output.status.success() {
        return Err(compile_error("libtiny_llm_mlx.so", &output.stderr));
    }
    fs::rename(&partial, &library).map_err(|e| Error::io("rename", &partial, e))
}

/// `$CXX`, or the first of the usual names that understands C++20.
pub(crate) fn find_compiler() -> Result<OsString, Error> {
    let chosen = std::env::var_os("CXX").filter(|name| !name.is_empty());
    let candidates = chosen.map_or_else(|| vec!["g++".into(), "c++".into(), "clang++".into()], |name| vec![name]);
    let understands_cpp20 = |compiler: &OsString| {
        Command::new(compiler)
            .args(["-std=gnu++20", "-x", "c++", "-fsyntax-only", "/dev/null"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
    };
    candidates.into_iter().find(understands_cpp20).ok_or_else(|| Error::Compiler(INSTALL_A_COMPILER.into()))
}

fn mlx_c_sources(mlx_c: &Path) -> Result<Vec<PathBuf>, Error> {
    let folder = mlx_c.join("mlx/c");
    let entries = fs::read_dir(&folder).map_err(|e| Error::io("read", &folder, e))?;
    let mut sources = Vec::new();
    for entry in entries {
        let path = entry.map_err(|e| Error::io("read", &folder, e))?.path();
        if path.extension().is_some_and(|extension| extension == "cpp") {
            sources.push(path);
        }
    }
    sources.sort();
    Ok(sources)
}

fn compile_error(file: &str, stderr: &[u8]) -> Error {
    let stderr = String::from_utf8_lossy(stderr);
    let line = stderr.lines().find(|line| line.contains("error")).or(stderr.lines().next());
    let reason = if stderr.contains("No space left on device") {
        "the disk is full; free some space or point TINY_LLM_CACHE at another disk".to_owned()
    } else {
        line.unwrap_or("the compiler gave no reason").to_owned()
    };
    Error::Compile { file: file.to_owned(), reason }
}
