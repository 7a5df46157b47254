//! Compiled kernels in memory.

use std::collections::HashMap;
use std::ffi::{CStr, CString, c_void};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use super::abi::{Entry, Run};
use super::compiler::{self, Compiler};
use super::{cache, source};
use crate::OperationError;

/// A shared library with one kernel and the runtime. It stays loaded until the program ends.
pub(super) struct Library {
    pub entry: Entry,
    pub run: Run,
    pub path: PathBuf,
    /// Where it begins in memory: addresses in its debug information count from here.
    pub base: u64,
}

/// Compiles a kernel's source (from [`source::kernel`]), unless this or an earlier program did, and loads it.
///
/// # Errors
/// No compiler; a source that doesn't compile; a cache folder that can't be written.
pub(super) fn load(source: &str, is_checked: bool, name: &str) -> Result<Arc<Library>, OperationError> {
    type Loaded = Arc<OnceLock<Result<Arc<Library>, OperationError>>>;
    static LOADED: Mutex<Option<HashMap<String, Loaded>>> = Mutex::new(None);

    let compiler = Compiler::find()?;
    // The prelude is the same for all; a digest of everything is made only where a file has to be found.
    let key = format!("{is_checked} {}\n{source}", compiler.version);
    let loaded = {
        let mut libraries = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(libraries.get_or_insert_default().entry(key.clone()).or_default())
    };
    // Others that want the same kernel wait here. An error is forgotten: it may be the disk's, and no more be there.
    let outcome = loaded.get_or_init(|| build(&compiler, source, is_checked, name)).clone();
    if outcome.is_err() {
        LOADED.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_default().remove(&key);
    }
    outcome
}

fn build(compiler: &Compiler, source: &str, is_checked: bool, name: &str) -> Result<Arc<Library>, OperationError> {
    let flags = compiler.kernel_flags(is_checked);
    let source = format!("{}{source}", source::PRELUDE);
    let key = cache::key(&[&compiler.version, &compiler::fixed_flags(), &flags.join(" "), source::RUNTIME, &source]);
    let path = cache::get(&key, "kernel.so", |folder| {
        let runtime = runtime(compiler)?;
        cache::write(&folder.join("kernel.cpp"), &source)?;
        compiler.compile(folder, "kernel.cpp", "kernel.o", &flags, name)?;
        compiler.link(folder, &[Path::new("kernel.o"), &runtime], "kernel.so")
    })?;
    open(&path).map(Arc::new)
}

/// The compiled runtime.
fn runtime(compiler: &Compiler) -> Result<PathBuf, OperationError> {
    let flags = compiler::FAST;
    let key = cache::key(&[&compiler.version, &compiler::fixed_flags(), &flags.join(" "), source::RUNTIME]);
    cache::get(&key, "runtime.o", |folder| {
        cache::write(&folder.join("runtime.cpp"), source::RUNTIME)?;
        compiler.compile(folder, "runtime.cpp", "runtime.o", &flags, "the emulator's runtime")
    })
}

fn open(path: &Path) -> Result<Library, OperationError> {
    let c_path = CString::new(path.as_os_str().as_bytes()).map_err(|_| "a path with a NUL byte")?;
    // SAFETY: the library was built from our sources and has no code that runs when it is loaded, but for empty functions.
    let handle = unsafe { libc::dlopen(c_path.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
    if handle.is_null() {
        return Err(format!("cannot load {}: {}", path.display(), last_error()).into());
    }
    let entry = symbol(handle, source::ENTRY)?;
    let run = symbol(handle, "emu_run")?;
    // SAFETY: zero is a value of the struct, and `dladdr` fills it for an address inside a loaded library.
    let base = unsafe {
        let mut info: libc::Dl_info = std::mem::zeroed();
        libc::dladdr(entry, &mut info);
        info.dli_fbase.expose_provenance() as u64
    };
    // SAFETY: the sources declare the functions with these types (`abi.h`, `source.rs`).
    let (entry, run) =
        unsafe { (std::mem::transmute::<*mut c_void, Entry>(entry), std::mem::transmute::<*mut c_void, Run>(run)) };
    Ok(Library { entry, run, path: path.to_owned(), base })
}

fn symbol(library: *mut c_void, name: &str) -> Result<*mut c_void, OperationError> {
    let c_name = CString::new(name).map_err(|_| "a name with a NUL byte")?;
    // SAFETY: the handle is that of an open library.
    let address = unsafe { libc::dlsym(library, c_name.as_ptr()) };
    if address.is_null() {
        Err(format!("the compiled kernel lacks {name}: {}", last_error()).into())
    } else {
        Ok(address)
    }
}

fn last_error() -> String {
    // SAFETY: the text lives until this thread's next call of one of these functions.
    unsafe {
        let text = libc::dlerror();
        if text.is_null() { "unknown error".to_owned() } else { CStr::from_ptr(text).to_string_lossy().into_owned() }
    }
}
