//! NVIDIA's GPUs, through MLX's `cuda_kernel`.
//!
//! MLX writes the function around the body and compiles it with NVRTC at the first start ([`source`]), unless it finds the kernel
//! compiled on disk, where [`compile`] puts it. It knows a compiled kernel by its name, so the name carries a digest of everything
//! that the machine code depends on.
//!
//! At every start MLX would write the whole source again, and compute a hash of it: the longer the source, the dearer the start.
//! So MLX gets no source of a kernel that is compiled ([`Source::stand_in`]), and `native/cuda_kernel.cpp` keeps what came of the
//! first start.

mod ahead;
mod compile;
mod files;
mod handles;
mod library;
mod nvrtc;
mod source;
mod target;

use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::{env, fs};

use mlx_rs::error::Exception;
use mlx_rs::{Array, Dtype, Stream, thread_local_default_stream};

use crate::TensorType;
use crate::gpu::{GpuKernel, Launch, TemplateValue};
pub use ahead::compile_ahead;
use compile::State;
use handles::Kernel;
pub(crate) use source::Source;

/// What a generated source depends on. Sources are `'static`, so where they lie says what they are.
#[derive(PartialEq, Eq, Hash)]
struct Key {
    kernel: [(usize, usize); 3],
    strided: bool,
    /// Threads of a threadgroup: the compiler is told.
    threads: usize,
    template: Vec<(&'static str, TemplateValue)>,
    inputs: Vec<Dtype>,
    outputs: Vec<Dtype>,
}

impl Key {
    fn new(kernel: &GpuKernel, inputs: &[&Array], launch: &Launch<'_>) -> Self {
        let place = |text: &'static str| (text.as_ptr().addr(), text.len());
        Self {
            kernel: [place(kernel.name), place(kernel.header), place(kernel.body)],
            strided: kernel.strided,
            threads: launch.threadgroup.iter().product(),
            template: launch.template.to_vec(),
            inputs: inputs.iter().map(|input| input.dtype()).collect(),
            outputs: launch.outputs.iter().map(|output| output.dtype).collect(),
        }
    }
}

/// Kernels that were started before: a start must cost microseconds, for hundreds of them make a token.
static KERNELS: LazyLock<Mutex<HashMap<Key, Arc<Kernel>>>> = LazyLock::new(Mutex::default);

/// Adds the kernel to MLX's graph.
///
/// # Errors
/// A declaration of threadgroup memory that can't be read; a stream of the CPU.
pub(crate) fn launch(kernel: &GpuKernel, inputs: &[&Array], launch: &Launch<'_>) -> Result<Vec<Array>, Exception> {
    let key = Key::new(kernel, inputs, launch);
    let known = KERNELS.lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned();
    let compiled = match known {
        Some(compiled) => compiled,
        None => {
            let (compiled, is_final) = prepare(kernel, &key, launch)?;
            let compiled = Arc::new(compiled);
            if is_final {
                KERNELS.lock().unwrap_or_else(PoisonError::into_inner).insert(key, Arc::clone(&compiled));
            }
            compiled
        }
    };
    compiled.start(inputs, launch, &gpu_stream(kernel)?)
}

/// The source as MLX will hand it to NVRTC.
///
/// # Errors
/// As [`launch`].
pub(crate) fn full_source(kernel: &GpuKernel, inputs: &[TensorType], launch: &Launch<'_>) -> Result<String, Exception> {
    let types: Vec<Dtype> = inputs.iter().map(|input| input.dtype).collect();
    Ok(Source::new(kernel, launch)?.as_mlx_writes_it(kernel, &types, launch))
}

/// Where every launch leaves its CUDA source, on whichever backend it runs: the variable `TINY_LLM_CUDA_SOURCES`.
pub(crate) fn sources_folder() -> Option<&'static Path> {
    static FOLDER: LazyLock<Option<PathBuf>> =
        LazyLock::new(|| env::var_os("TINY_LLM_CUDA_SOURCES").map(PathBuf::from));
    FOLDER.as_deref()
}

/// Writes the source of a launch to a file of its own, so that it can be compiled elsewhere (`tools/compile_cuda.py`).
///
/// # Errors
/// As [`launch`], and when the file can't be written.
pub(crate) fn write_source(
    folder: &Path,
    kernel: &GpuKernel,
    inputs: &[&Array],
    launch: &Launch<'_>,
) -> Result<(), Exception> {
    let types: Vec<TensorType> = inputs.iter().map(|input| TensorType::new([], input.dtype())).collect();
    let source = full_source(kernel, &types, launch)?;
    let mut hasher = std::hash::DefaultHasher::new();
    source.hash(&mut hasher);
    let path = folder.join(format!("{}_{:016x}.cu", kernel.name, hasher.finish()));
    fs::write(&path, source).map_err(|error| Exception::custom(format!("cannot write {}: {error}", path.display())))
}

/// The kernel, and whether that is the last word on it.
fn prepare(kernel: &GpuKernel, key: &Key, launch: &Launch<'_>) -> Result<(Kernel, bool), Exception> {
    let source = Source::new(kernel, launch)?;
    let provided = compile::provide(&source, kernel, &key.inputs, launch);
    let folder = match &provided.state {
        State::Compiled(folder) => Some(folder.as_path()),
        State::PutOff | State::Source => None,
    };
    let compiled = Kernel::new(&provided.name, kernel, &source, folder)?;
    Ok((compiled, provided.state != State::PutOff))
}

/// The stream of `with_stream` or `with_device`, else the GPU's default.
fn gpu_stream(kernel: &GpuKernel) -> Result<Stream, Exception> {
    match thread_local_default_stream() {
        Some(stream) if handles::is_on_gpu(&stream) => Ok(stream),
        Some(_) => {
            Err(Exception::custom(format!("{}: runs on the GPU, but the current stream is the CPU's", kernel.name)))
        }
        None => Ok(Stream::gpu()),
    }
}
