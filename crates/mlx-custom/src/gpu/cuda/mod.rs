//! NVIDIA's GPUs, through MLX's `cuda_kernel`.
//!
//! MLX writes the function around the body and compiles it with NVRTC at the first start ([`source`]). Its cache of
//! compiled kernels goes by name alone, so the name carries a digest of everything that the source depends on. It copies the
//! source at every start all the same, several times; so once a kernel has run, it is started under the same name without one.

mod handles;
mod source;

use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex, OnceLock, PoisonError};
use std::{env, fs};

use mlx_rs::error::Exception;
use mlx_rs::{Array, Dtype, Stream, thread_local_default_stream};

use crate::TensorType;
use crate::gpu::{GpuKernel, Launch, TemplateValue};
use handles::{Config, Kernel};
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

/// A kernel with its constants and types.
struct Prepared {
    name: String,
    source: Source,
    full: Kernel,
    /// The same without a source, from when MLX has compiled it.
    started: OnceLock<Kernel>,
}

/// Kernels that were started before: a start must cost microseconds, for hundreds of them make a token.
static KERNELS: LazyLock<Mutex<HashMap<Key, Arc<Prepared>>>> = LazyLock::new(Mutex::default);

/// Adds the kernel to MLX's graph. The first start of a kernel with these constants and types is evaluated at once.
///
/// # Errors
/// A declaration of threadgroup memory that can't be read; a stream of the CPU; at the first start, what the compiler says.
pub(crate) fn launch(kernel: &GpuKernel, inputs: &[&Array], launch: &Launch<'_>) -> Result<Vec<Array>, Exception> {
    let key = Key::new(kernel, inputs, launch);
    let known = KERNELS.lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned();
    let prepared = match known {
        Some(prepared) => prepared,
        None => {
            let prepared = Arc::new(Prepared::new(kernel, &key, launch)?);
            KERNELS.lock().unwrap_or_else(PoisonError::into_inner).insert(key, Arc::clone(&prepared));
            prepared
        }
    };
    let (config, stream) = (Config::new(launch)?, gpu_stream(kernel)?);
    if let Some(started) = prepared.started.get() {
        return started.apply(inputs, &config, &stream);
    }
    let outputs = prepared.full.apply(inputs, &config, &stream)?;
    mlx_rs::transforms::eval(&outputs)?;
    // If another thread was faster, its kernel is as good.
    _ = prepared.started.set(prepared.without_source(kernel)?);
    Ok(outputs)
}

/// The source as MLX will hand it to NVRTC.
///
/// # Errors
/// As [`launch`].
pub(crate) fn full_source(kernel: &GpuKernel, inputs: &[TensorType], launch: &Launch<'_>) -> Result<String, Exception> {
    Ok(Source::new(kernel, launch)?.as_mlx_writes_it(kernel, inputs, launch))
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

impl Prepared {
    fn new(kernel: &GpuKernel, key: &Key, launch: &Launch<'_>) -> Result<Self, Exception> {
        let source = Source::new(kernel, launch)?;
        let mut hasher = std::hash::DefaultHasher::new();
        (&source.header, &source.body, kernel.inputs, kernel.outputs, kernel.strided).hash(&mut hasher);
        (&key.inputs, &key.outputs).hash(&mut hasher);
        let name = format!("{}_{:016x}", kernel.name, hasher.finish());
        let full = Kernel::new(&name, kernel, &source.header, &source.body, source.dynamic_bytes)?;
        Ok(Self { name, source, full, started: OnceLock::new() })
    }

    fn without_source(&self, kernel: &GpuKernel) -> Result<Kernel, Exception> {
        let parameters = source::parameters_in(&self.source.body, kernel);
        Kernel::new(&self.name, kernel, "", &parameters, self.source.dynamic_bytes)
    }
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
