//! Compiles kernels before MLX asks for them, and keeps what came of it.
//!
//! MLX compiles a kernel in the middle of the evaluation that first needs it, one after another, about a second each, in every
//! process anew: a first token took 16 s. But it looks for a compiled one on disk first ([`files`](super::files)). So what a kernel
//! becomes is put there before MLX is told of it:
//!
//! - it is compiled once for all processes;
//! - it takes a fraction of the time, for most of a second goes into headers that no kernel needs
//!   ([`Source::standalone`]); the machine code is the same;
//! - several are compiled at the same time, if they are known in advance ([`compile_ahead`](ahead::compile_ahead)).
//!
//! Nothing depends on it. Where a part is missing (the compiler, a folder that can be written) or a kernel doesn't compile, MLX
//! compiles by itself and says what is wrong.
//!
//! Files stay until somebody deletes them; any may go at any time (a program that is just about to load one then asks to be started
//! again). Their names say what they were made from, so none is ever out
//! of date. `MLX_PTX_CACHE_DIR` names their folder; without it, that is `mlx/<version of MLX>/ptx` in the system's folder for
//! temporary files.

use std::path::PathBuf;
use std::sync::LazyLock;

use mlx_rs::Dtype;
use sha2::{Digest, Sha256};

use crate::gpu::cuda::ahead;
use crate::gpu::cuda::files::{self, Files};
use crate::gpu::cuda::nvrtc::Nvrtc;
use crate::gpu::cuda::source::{Source, function_name};
use crate::gpu::cuda::target;
use crate::gpu::{GpuKernel, Launch};

/// What is the same for all kernels of a process.
pub(super) struct Compiler {
    nvrtc: Nvrtc,
    options: Vec<String>,
    /// Where compiled kernels are kept.
    folder: PathBuf,
    /// Besides a source and the options, all that decides what becomes of it.
    versions: String,
}

/// `None` where kernels can't be compiled in advance; then MLX does it.
pub(super) static COMPILER: LazyLock<Option<Compiler>> = LazyLock::new(|| {
    let nvrtc = Nvrtc::find()?;
    let mlx_version = target::mlx_version()?;
    let folder = files::folder(&mlx_version)?;
    let options = target::options(&target::architecture()?, &target::header_folders());
    Some(Compiler::new(nvrtc, &mlx_version, options, folder))
});

impl Compiler {
    pub(super) fn new(nvrtc: Nvrtc, mlx_version: &str, options: Vec<String>, folder: PathBuf) -> Self {
        let versions = format!("MLX {mlx_version}, NVRTC {}.{}", nvrtc.version.0, nvrtc.version.1);
        Self { nvrtc, options, folder, versions }
    }

    /// Sees to it that MLX finds the kernel. Whatever goes wrong, MLX will not find it and compile it by itself.
    pub(super) fn provide(&self, job: &Job) {
        let function = job.function();
        if let Some(compiled) = self.nvrtc.compile(&job.source, &function, &self.options) {
            _ = self.files(job).write(&function, &compiled);
        }
    }

    pub(super) fn needs(&self, job: &Job) -> bool {
        !self.files(job).are_there(&job.function())
    }

    fn files(&self, job: &Job) -> Files {
        Files::new(&self.folder, &function_name(&job.name))
    }
}

/// A kernel to be compiled.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) name: String,
    pub(super) source: String,
}

impl Job {
    /// The kernel's function, as MLX asks for it.
    fn function(&self) -> String {
        format!("mlx::core::cu::{}", function_name(&self.name))
    }
}

/// What became of a kernel.
pub(super) struct Provided {
    /// The name that MLX shall know it by: it changes with everything that the compiled kernel depends on.
    pub(super) name: String,
    pub(super) state: State,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum State {
    /// It is compiled, in this folder.
    Compiled(PathBuf),
    /// The [`compile_ahead`](ahead::compile_ahead) around it will compile it.
    PutOff,
    /// MLX has to compile it.
    Source,
}

/// Compiles the kernel, unless it is compiled, or has it compiled later.
pub(super) fn provide(source: &Source, kernel: &GpuKernel, inputs: &[Dtype], launch: &Launch<'_>) -> Provided {
    let compiler = COMPILER.as_ref();
    let (versions, options) =
        compiler.map_or(("", [].as_slice()), |compiler| (compiler.versions.as_str(), compiler.options.as_slice()));
    let name = name(kernel, &source.standalone(kernel.name, kernel, inputs, launch), versions, options);
    let Some(compiler) = compiler else { return Provided { name, state: State::Source } };
    let job = Job { source: source.standalone(&name, kernel, inputs, launch), name: name.clone() };
    let compiled = || State::Compiled(compiler.folder.clone());
    let state = if !compiler.needs(&job) {
        compiled()
    } else {
        match ahead::put_off(job) {
            None => State::PutOff,
            Some(job) => {
                compiler.provide(&job);
                if compiler.needs(&job) { State::Source } else { compiled() }
            }
        }
    };
    Provided { name, state }
}

fn name(kernel: &GpuKernel, source: &str, versions: &str, options: &[String]) -> String {
    let mut hasher = Sha256::new();
    let mut add = |text: &str| {
        hasher.update(text.len().to_le_bytes());
        hasher.update(text);
    };
    add(source);
    // MLX copies the inputs of such a kernel or doesn't.
    add(if kernel.strided { "strided" } else { "row-major" });
    add(versions);
    options.iter().for_each(|option| add(option));
    let digest: String = hasher.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    format!("{}_{digest}", kernel.name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TensorType;

    const KERNEL: GpuKernel = GpuKernel {
        name: "double",
        inputs: &["x"],
        outputs: &["y"],
        header: "",
        body: "uint i = thread_position_in_grid.x;\nif (i < uint(x_shape[0])) y[i] = x[i] + x[i];\n",
        strided: false,
    };

    fn source(kernel: &GpuKernel, dtype: Dtype) -> (Source, String) {
        let outputs = [TensorType::new([64], dtype)];
        let launch = Launch { template: &[], outputs: &outputs, grid: [64, 1, 1], threadgroup: [64, 1, 1], fill: None };
        let source = Source::new(kernel, &launch).unwrap();
        let text = source.standalone(kernel.name, kernel, &[dtype], &launch);
        (source, text)
    }

    #[test]
    fn names_differ_by_all_that_compiled_kernels_depend_on() {
        let (_, text) = source(&KERNEL, Dtype::Float32);
        let options = |architecture: &str| target::options(architecture, &["/usr/local/cuda/include".into()]);
        let versions = "MLX 0.32.2, NVRTC 13.0";
        let names = [
            name(&KERNEL, &text, versions, &options("sm_90a")),
            name(&KERNEL, &text, versions, &options("sm_80")),
            name(&KERNEL, &text, "MLX 0.32.2, NVRTC 13.1", &options("sm_90a")),
            name(&KERNEL, &text, "MLX 0.32.3, NVRTC 13.0", &options("sm_90a")),
            name(&KERNEL, &source(&KERNEL, Dtype::Float16).1, versions, &options("sm_90a")),
            name(&GpuKernel { strided: true, ..KERNEL }, &text, versions, &options("sm_90a")),
        ];
        assert_eq!(names[0], name(&KERNEL, &text, versions, &options("sm_90a")), "the same in every process");
        for (i, one) in names.iter().enumerate() {
            assert!(one.starts_with("double_") && one.len() == "double_".len() + 16, "{one}");
            assert!(!names[..i].contains(one), "{names:?}");
        }
    }

    #[test]
    fn mlx_asks_for_a_function_in_its_namespace() {
        let job = Job { name: "double_01".to_owned(), source: String::new() };
        assert_eq!(job.function(), "mlx::core::cu::custom_kernel_double_01");
    }

    #[test]
    fn the_source_of_our_own_differs_in_its_beginning_alone() {
        let outputs = [TensorType::new([64], Dtype::Float32)];
        let launch = Launch { template: &[], outputs: &outputs, grid: [64, 1, 1], threadgroup: [64, 1, 1], fill: None };
        let source = Source::new(&KERNEL, &launch).unwrap();
        let of_mlx = source.as_mlx_writes_it(&KERNEL, &[Dtype::Float32], &launch);
        let own = source.standalone(KERNEL.name, &KERNEL, &[Dtype::Float32], &launch);
        let rest = of_mlx.split_once("infinity()\n\n").unwrap().1;
        assert!(own.ends_with(rest));
        assert!(own.contains("using Shape = PerAxis<int32_t>;"), "{own}");
        assert!(
            rest.contains(
                "void custom_kernel_double(\n    const float* x,\n    const __grid_constant__ Shape x_shape,"
            )
        );
    }

    /// NVRTC from the wheels below the folder `CUDA_WHEELS`, as for `tools/compile_cuda.py`; it needs no GPU.
    #[cfg(target_os = "linux")]
    fn compiler(folder: PathBuf) -> Option<Compiler> {
        use std::ffi::CString;

        let wheels = PathBuf::from(std::env::var_os("CUDA_WHEELS")?).join("nvidia/cu13");
        let mut libraries: Vec<_> =
            std::fs::read_dir(wheels.join("lib")).unwrap().map(|entry| entry.unwrap().path()).collect();
        libraries.retain(|path| path.file_name().unwrap().to_str().unwrap().starts_with("libnvrtc"));
        // The compiler's data before the compiler, which asks for them by name.
        libraries.sort_by_key(|path| !path.to_str().unwrap().contains("builtins"));
        for library in libraries {
            let path = CString::new(library.to_str().unwrap()).unwrap();
            // SAFETY: loading NVIDIA's libraries runs nothing that disturbs this process. They stay.
            let library = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW | libc::RTLD_GLOBAL) };
            assert!(!library.is_null(), "{path:?} can't be loaded");
        }
        let options = target::options("sm_90a", &[wheels.join("include")]);
        Some(Compiler::new(Nvrtc::find().unwrap(), "0.32.2", options, folder))
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn kernels_are_compiled_and_kept() {
        let folder = std::env::temp_dir().join(format!("mlx-custom-compile-{}", std::process::id()));
        let Some(compiler) = compiler(folder.clone()) else { return };
        let job = |body: &'static str| {
            let kernel = GpuKernel { body, ..KERNEL };
            let (_, text) = source(&kernel, Dtype::Float32);
            let name = name(&kernel, &text, &compiler.versions, &compiler.options);
            let source = text.replace("custom_kernel_double", &function_name(&name));
            Job { name, source }
        };
        let broken = job("y[0] = no_such_name;\n");
        compiler.provide(&broken);
        assert!(compiler.needs(&broken) && !folder.exists(), "MLX says what is wrong");

        // As many as several threads, each with shapes and strides among its parameters.
        let jobs =
            vec![job(KERNEL.body), job("y[0] = x[x_strides[0]] + inf;\n"), job("y[0] = x[x_ndim] + INFINITY;\n")];
        let names: Vec<_> = jobs.iter().map(|job| job.name.clone()).collect();
        ahead::in_parallel(3, jobs, |job| {
            assert!(compiler.needs(&job));
            compiler.provide(&job);
            assert!(!compiler.needs(&job));
        });
        for name in names {
            let read =
                |extension: &str| std::fs::read(folder.join(format!("custom_kernel_{name}.{extension}"))).unwrap();
            let line = String::from_utf8(read("txt")).unwrap();
            let (function, mangled) = line.strip_suffix('\n').unwrap().split_once('\t').unwrap();
            assert_eq!(function, format!("mlx::core::cu::custom_kernel_{name}"));
            let last = format!("custom_kernel_{name}");
            assert!(mangled.starts_with(&format!("_ZN3mlx4core2cu{}{last}E", last.len())), "{mangled}");
            // The driver looks for it in the table of names.
            let binary = read("ptx");
            let entry = [mangled.as_bytes(), b"\0"].concat();
            assert!(binary.windows(entry.len()).any(|part| part == entry), "{mangled}");
        }
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_stand_in_says_what_mlx_looks_for_and_never_compiles() {
        let (source, _) = source(&KERNEL, Dtype::Float32);
        let stand_in = source.stand_in(&KERNEL);
        assert!(stand_in.starts_with("#error "), "{stand_in}");
        assert!(stand_in.contains("x_shape") && !stand_in.contains("x_strides"), "{stand_in}");
        assert!(stand_in.len() < 200, "its hash is computed at every start: {stand_in}");
    }
}
