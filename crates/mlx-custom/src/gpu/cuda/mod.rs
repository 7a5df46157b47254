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
pub(crate) use handles::Kernel;
pub(crate) use source::Source;

/// What a generated source depends on. Sources are `'static`, so where they lie says what they are.
struct Key {
    kernel: [(usize, usize); 5],
    strided: bool,
    /// Threads of a threadgroup: the compiler is told.
    threads: usize,
    template: Vec<(&'static str, TemplateValue)>,
    inputs: Vec<Dtype>,
    outputs: Vec<Dtype>,
}

impl Key {
    fn new(kernel: &GpuKernel, inputs: &[&Array], launch: &Launch<'_>) -> Self {
        Self {
            kernel: places(kernel),
            strided: kernel.strided,
            threads: launch.threadgroup.iter().product(),
            template: launch.template.to_vec(),
            inputs: inputs.iter().map(|input| input.dtype()).collect(),
            outputs: launch.outputs.iter().map(|output| output.dtype).collect(),
        }
    }

    fn is_of(&self, kernel: &GpuKernel, inputs: &[&Array], launch: &Launch<'_>) -> bool {
        self.kernel == places(kernel)
            && self.strided == kernel.strided
            && self.threads == launch.threadgroup.iter().product::<usize>()
            && self.template == launch.template
            && self.inputs.iter().copied().eq(inputs.iter().map(|input| input.dtype()))
            && self.outputs.iter().copied().eq(launch.outputs.iter().map(|output| output.dtype))
    }
}

/// Where a kernel's texts and lists of names lie, and how long they are.
fn places(kernel: &GpuKernel) -> [(usize, usize); 5] {
    let text = |text: &'static str| (text.as_ptr().addr(), text.len());
    let names = |names: &'static [&'static str]| (names.as_ptr().addr(), names.len());
    let GpuKernel { name, inputs, outputs, header, body, .. } = *kernel;
    [text(name), text(header), text(body), names(inputs), names(outputs)]
}

/// Kernels that were started before, by fingerprint. A start must cost microseconds, for hundreds of them make a token.
static KERNELS: LazyLock<Mutex<HashMap<u64, Vec<Known>>>> = LazyLock::new(Mutex::default);

struct Known {
    key: Key,
    kernel: Arc<Kernel>,
}

/// The kernel, if it was started before with these types and constants. All that depends on them was checked then.
pub(crate) fn known(kernel: &GpuKernel, inputs: &[&Array], launch: &Launch<'_>) -> Option<Arc<Kernel>> {
    let fingerprint = fingerprint(kernel, inputs, launch);
    let kernels = KERNELS.lock().unwrap_or_else(PoisonError::into_inner);
    let known = kernels.get(&fingerprint)?.iter().find(|known| known.key.is_of(kernel, inputs, launch))?;
    Some(Arc::clone(&known.kernel))
}

/// Adds a kernel to MLX's graph that isn't [`known`].
///
/// # Errors
/// A declaration of threadgroup memory that can't be read; a stream of the CPU.
pub(crate) fn launch(kernel: &GpuKernel, inputs: &[&Array], launch: &Launch<'_>) -> Result<Vec<Array>, Exception> {
    let key = Key::new(kernel, inputs, launch);
    let (compiled, is_final) = prepare(kernel, &key, launch)?;
    let compiled = Arc::new(compiled);
    if is_final {
        let known = Known { key, kernel: Arc::clone(&compiled) };
        let mut kernels = KERNELS.lock().unwrap_or_else(PoisonError::into_inner);
        kernels.entry(fingerprint(kernel, inputs, launch)).or_default().push(known);
    }
    start(&compiled, kernel, inputs, launch)
}

/// Adds a known kernel to MLX's graph.
///
/// # Errors
/// A stream of the CPU; what MLX refuses.
pub(crate) fn start(
    compiled: &Kernel,
    kernel: &GpuKernel,
    inputs: &[&Array],
    launch: &Launch<'_>,
) -> Result<Vec<Array>, Exception> {
    compiled.start(inputs, launch, &gpu_stream(kernel)?)
}

/// A number that two starts of the same compiled kernel share, and others seldom do.
fn fingerprint(kernel: &GpuKernel, inputs: &[&Array], launch: &Launch<'_>) -> u64 {
    let mix = |hash: u64, number: u64| (hash.rotate_left(5) ^ number).wrapping_mul(0x517C_C1B7_2722_0A95);
    let mut hash = mix(kernel.body.as_ptr().addr() as u64, launch.threadgroup.iter().product::<usize>() as u64);
    for (_, value) in launch.template {
        let number = match *value {
            TemplateValue::Int(number) => u64::from(number.cast_unsigned()),
            TemplateValue::Bool(is_true) => 1 << 32 | u64::from(is_true),
            TemplateValue::Dtype(dtype) => 2 << 32 | u64::from(u32::from(dtype)),
        };
        hash = mix(hash, number);
    }
    let outputs = launch.outputs.iter().map(|output| output.dtype);
    inputs.iter().map(|input| input.dtype()).chain(outputs).fold(hash, |hash, dtype| mix(hash, u32::from(dtype).into()))
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

#[cfg(test)]
mod tests {
    use super::*;

    const KERNEL: GpuKernel =
        GpuKernel { name: "copy", inputs: &["x"], outputs: &["y"], header: "", body: "y[0] = x[0];", strided: false };

    /// A start that took another's kernel would compute something else, on a GPU only.
    #[test]
    fn what_a_compiled_kernel_depends_on_is_told_apart() {
        let float = Array::from_slice(&[1.0_f32; 8], &[8]);
        let integer = Array::from_slice(&[1_u32; 8], &[8]);
        let outputs = [TensorType::new([8], Dtype::Float32)];
        let wide_outputs = [TensorType::new([8], Dtype::Float16)];
        let template = [("N", TemplateValue::Int(1)), ("T", TemplateValue::Dtype(Dtype::Float32))];
        let launch =
            Launch { template: &template, outputs: &outputs, grid: [64, 1, 1], threadgroup: [32, 1, 1], fill: None };
        let key = Key::new(&KERNEL, &[&float], &launch);
        let larger =
            Launch { grid: [320, 2, 1], outputs: &[TensorType::new([4, 2], Dtype::Float32)], ..launch.clone() };
        assert!(key.is_of(&KERNEL, &[&float], &larger), "the grid and shapes may differ");
        assert_eq!(fingerprint(&KERNEL, &[&float], &launch), fingerprint(&KERNEL, &[&float], &larger));

        let other_number = [("N", TemplateValue::Int(2)), template[1]];
        let other_kind = [("N", TemplateValue::Bool(true)), template[1]];
        let other_name = [("M", TemplateValue::Int(1)), template[1]];
        let shorter = &template[..1];
        for (what, launch) in [
            ("a number", Launch { template: &other_number, ..launch.clone() }),
            ("a bool", Launch { template: &other_kind, ..launch.clone() }),
            ("a name", Launch { template: &other_name, ..launch.clone() }),
            ("a constant less", Launch { template: shorter, ..launch.clone() }),
            ("threads", Launch { threadgroup: [64, 1, 1], ..launch.clone() }),
            ("an output's type", Launch { outputs: &wide_outputs, ..launch.clone() }),
        ] {
            assert!(!key.is_of(&KERNEL, &[&float], &launch), "{what}");
        }
        assert!(!key.is_of(&KERNEL, &[&integer], &launch), "an input's type");
        assert!(!key.is_of(&KERNEL, &[&float, &float], &launch), "an input more");
        for (what, kernel) in [
            ("a body", GpuKernel { body: "y[0] = 2 * x[0];", ..KERNEL }),
            ("a header", GpuKernel { header: "// two", ..KERNEL }),
            ("an input's name", GpuKernel { inputs: &["a"], ..KERNEL }),
            ("strides", GpuKernel { strided: true, ..KERNEL }),
        ] {
            assert!(!key.is_of(&kernel, &[&float], &launch), "{what}");
        }
    }
}
