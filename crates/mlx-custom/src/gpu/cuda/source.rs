//! The CUDA source of a kernel.

use std::fmt::Write;
use std::sync::LazyLock;

use mlx_rs::Dtype;
use mlx_rs::error::Exception;

use crate::gpu::memory::{ALIGNMENT, threadgroup_bytes};
use crate::gpu::tokens::{TokenKind, tokenize};
use crate::gpu::{GpuKernel, Launch, Lowered, TemplateValue, ThreadgroupArray};

/// Static `__shared__` arrays end here; more memory has to be asked for at the start.
const STATIC_BYTES: usize = 48 << 10;
/// What a threadgroup can have on the GPUs of compute capability 9.0.
const MAX_BYTES: usize = 227 << 10;

/// Where wide tiles begin; the swizzle of their rows needs it. Only in kernels that have some: it costs memory.
const WIDE_ALIGNMENT: usize = 1024;

/// Metal's names in CUDA, without comments, and the words that say that a kernel needs them. A part needs those before it. What
/// isn't needed is left out: it would have to be compiled.
static PRELUDE: LazyLock<[(&str, String); 3]> = LazyLock::new(|| {
    let always = [
        include_str!("../prelude/cuda/types.cuh"),
        include_str!("../prelude/cuda/math.cuh"),
        include_str!("../prelude/cuda/simd.cuh"),
    ];
    [
        ("", always.map(without_comments).concat()),
        ("tile", without_comments(include_str!("../prelude/cuda/tiles.cuh"))),
        ("wide_", without_comments(include_str!("../prelude/cuda/wide.cuh"))),
    ]
});

/// The parts of the prelude for this kernel.
fn prelude(kernel: &GpuKernel) -> String {
    let needs = |word: &str| kernel.header.to_lowercase().contains(word) || kernel.body.to_lowercase().contains(word);
    let n_parts = PRELUDE.iter().rposition(|(word, _)| needs(word)).map_or(0, |last| last + 1);
    PRELUDE.iter().take(n_parts).map(|(_, part)| part.as_str()).collect()
}

/// Names that Metal gives a kernel, and what they are in CUDA. Declared at the top of bodies that use them.
const INDICES: [(&str, &str); 11] = [
    (
        "thread_position_in_grid",
        "const uint3 thread_position_in_grid(blockIdx.x * blockDim.x + threadIdx.x, blockIdx.y * blockDim.y + threadIdx.y, blockIdx.z * blockDim.z + threadIdx.z);",
    ),
    (
        "threads_per_grid",
        "const uint3 threads_per_grid(gridDim.x * blockDim.x, gridDim.y * blockDim.y, gridDim.z * blockDim.z);",
    ),
    ("threadgroup_position_in_grid", "const uint3 threadgroup_position_in_grid(blockIdx.x, blockIdx.y, blockIdx.z);"),
    ("threadgroups_per_grid", "const uint3 threadgroups_per_grid(gridDim.x, gridDim.y, gridDim.z);"),
    (
        "thread_position_in_threadgroup",
        "const uint3 thread_position_in_threadgroup(threadIdx.x, threadIdx.y, threadIdx.z);",
    ),
    ("threads_per_threadgroup", "const uint3 threads_per_threadgroup(blockDim.x, blockDim.y, blockDim.z);"),
    (
        "thread_index_in_threadgroup",
        "const uint thread_index_in_threadgroup = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);",
    ),
    (
        "thread_index_in_simdgroup",
        "const uint thread_index_in_simdgroup = (threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z)) % 32;",
    ),
    (
        "simdgroup_index_in_threadgroup",
        "const uint simdgroup_index_in_threadgroup = (threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z)) / 32;",
    ),
    (
        "simdgroups_per_threadgroup",
        "const uint simdgroups_per_threadgroup = (blockDim.x * blockDim.y * blockDim.z + 31) / 32;",
    ),
    ("threads_per_simdgroup", "constexpr uint threads_per_simdgroup = 32;"),
];

/// How every source of MLX begins. `tools/compile_cuda.py` looks for the last of these lines.
const MLX_BEGINNING: &str = "\n#include \"mlx/backend/cuda/device/utils.cuh\"\n\n#include <cooperative_groups.h>\n\n\
                             #define inf cuda::std::numeric_limits<float>::infinity()\n\n";

/// The two texts that MLX takes.
pub(crate) struct Source {
    /// The prelude and the kernel's own functions.
    pub(crate) header: String,
    pub(crate) body: String,
    /// Threadgroup memory to be asked for at the start, in bytes.
    pub(crate) dynamic_bytes: usize,
}

impl Source {
    /// # Errors
    /// A declaration of threadgroup memory that can't be read; more of it than a GPU has.
    pub(crate) fn new(kernel: &GpuKernel, launch: &Launch<'_>) -> Result<Self, Exception> {
        let lowered = Lowered::new(kernel).map_err(|error| Exception::custom(error.in_body_of(kernel)))?;
        let alignment = if multiplies_wide_tiles(kernel) { WIDE_ALIGNMENT } else { ALIGNMENT };
        let bytes = threadgroup_bytes(&lowered, launch, alignment);
        if let Some(bytes) = bytes.filter(|&bytes| bytes > MAX_BYTES) {
            let name = kernel.name;
            return Err(Exception::custom(format!(
                "{name}: declares {bytes} bytes of threadgroup memory; {MAX_BYTES} are the most on CUDA"
            )));
        }
        // A size that isn't known stays static; the compiler says if it is too large.
        let dynamic_bytes = bytes.filter(|&bytes| bytes > STATIC_BYTES).unwrap_or(0);

        let mut header = prelude(kernel);
        // MLX writes `__global__ void` in front of the kernel. Without this the compiler may give each thread so many
        // registers that a threadgroup of this size can't start.
        let threads: usize = launch.threadgroup.iter().product();
        _ = writeln!(
            header,
            "#undef __global__\n#define __global__ __attribute__((global)) __attribute__((launch_bounds({threads})))"
        );
        if !kernel.header.trim().is_empty() {
            let own = without_comments(kernel.header);
            _ = write!(header, "namespace mlx::core::cu {{\n#line 1 \"{}.metal (header)\"\n{own}\n}}\n", kernel.name);
        }
        // MLX would write these, and a digest of them into the name, at every start.
        let mut body = constants(launch);
        for (name, declaration) in INDICES {
            if uses_word(kernel.body, name) {
                body.push_str(declaration);
                body.push('\n');
            }
        }
        let mut number = 0;
        let statements = if dynamic_bytes == 0 {
            lowered.body_with(|array| static_array(array, alignment))
        } else {
            _ = writeln!(
                body,
                "extern __shared__ __align__({}) unsigned char threadgroup_memory[];",
                alignment.max(128)
            );
            body.push_str("constexpr unsigned threadgroup_end_0 = 0;\n");
            lowered.body_with(|array| {
                number += 1;
                dynamic_array(array, number, alignment)
            })
        };
        _ = write!(body, "#line 1 \"{}.metal\"\n{statements}", kernel.name);
        Ok(Self { header, body, dynamic_bytes })
    }

    /// A body for a kernel that MLX will find compiled: it only says which shapes and strides the kernel takes, which MLX looks
    /// for in the text.
    pub(crate) fn stand_in(&self, kernel: &GpuKernel) -> String {
        let mut text =
            String::from("#error \"the compiled kernel was deleted meanwhile; start the program again\"\n//");
        for name in kernel.inputs {
            for suffix in ["shape", "strides", "ndim"] {
                let word = format!("{name}_{suffix}");
                if self.body.contains(&word) {
                    text.push(' ');
                    text.push_str(&word);
                }
            }
        }
        text.push('\n');
        text
    }

    /// The whole file, as MLX 0.32.2 writes it around both texts.
    pub(crate) fn as_mlx_writes_it(&self, kernel: &GpuKernel, inputs: &[Dtype], launch: &Launch<'_>) -> String {
        self.file(MLX_BEGINNING, kernel.name, kernel, inputs, launch)
    }

    /// The same kernel behind the few declarations that it needs: the same machine code in a fraction of the time. `name` is
    /// what MLX knows the kernel by.
    pub(super) fn standalone(&self, name: &str, kernel: &GpuKernel, inputs: &[Dtype], launch: &Launch<'_>) -> String {
        static BEGINNING: LazyLock<String> =
            LazyLock::new(|| without_comments(include_str!("../prelude/cuda/standalone.cuh")));
        self.file(&BEGINNING, name, kernel, inputs, launch)
    }

    fn file(&self, beginning: &str, name: &str, kernel: &GpuKernel, inputs: &[Dtype], launch: &Launch<'_>) -> String {
        let mut file = beginning.to_owned();
        file.push_str(&self.header);
        file.push_str("namespace mlx::core::cu {\n\nnamespace cg = cooperative_groups;\n\n");
        let mut parameters = Vec::new();
        for (name, input) in kernel.inputs.iter().zip(inputs) {
            parameters.push(format!("const {}* {name}", cuda_type(*input)));
            for (kind, suffix) in [("Shape", "shape"), ("Strides", "strides"), ("int", "ndim")] {
                if self.body.contains(&format!("{name}_{suffix}")) {
                    parameters.push(format!("const __grid_constant__ {kind} {name}_{suffix}"));
                }
            }
        }
        for (name, output) in kernel.outputs.iter().zip(launch.outputs) {
            parameters.push(format!("{}* {name}", cuda_type(output.dtype)));
        }
        let parameters = parameters.join(",\n    ");
        _ = write!(file, "__global__ void {}(\n    {parameters}) {{\n", function_name(name));
        file.push('\n');
        file.push_str(&self.body);
        file.push_str("\n}\n\n} // namespace mlx::core::cu\n");
        file
    }
}

/// What MLX calls the function of a kernel, and the compiled module too.
pub(super) fn function_name(name: &str) -> String {
    format!("custom_kernel_{name}")
}

/// The template arguments.
fn constants(launch: &Launch<'_>) -> String {
    let line = |(name, value): &(&str, TemplateValue)| match value {
        TemplateValue::Int(value) => format!("constexpr int {name} = {value};\n"),
        TemplateValue::Bool(value) => format!("constexpr bool {name} = {value};\n"),
        TemplateValue::Dtype(dtype) => format!("using {name} = {};\n", cuda_type(*dtype)),
    };
    launch.template.iter().map(line).collect()
}

fn static_array(array: &ThreadgroupArray, alignment: usize) -> String {
    format!("__shared__ __align__({alignment}) {} {}{};", array.element, array.name, array.lengths)
}

/// A part of the one array that CUDA has for memory asked for at the start.
fn dynamic_array(array: &ThreadgroupArray, number: usize, alignment: usize) -> String {
    let ThreadgroupArray { element, name, lengths, .. } = array;
    let before = number - 1;
    format!(
        "using threadgroup_type_{number} = {element}{lengths}; \
         constexpr unsigned threadgroup_start_{number} = (threadgroup_end_{before} + {}) / {alignment} * {alignment}; \
         [[maybe_unused]] constexpr unsigned threadgroup_end_{number} = threadgroup_start_{number} + sizeof(threadgroup_type_{number}); \
         threadgroup_type_{number}& {name} = \
         *reinterpret_cast<threadgroup_type_{number}*>(threadgroup_memory + threadgroup_start_{number}); ",
        alignment - 1
    )
}

/// The matrix units of compute capability 9.0 read such tiles from threadgroup memory themselves.
fn multiplies_wide_tiles(kernel: &GpuKernel) -> bool {
    uses_word(kernel.body, "wide_multiply_transposed") || uses_word(kernel.body, "wide_multiply_add")
}

fn uses_word(source: &str, word: &str) -> bool {
    tokenize(source).unwrap_or_default().iter().any(|token| token.kind == TokenKind::Word && token.text(source) == word)
}

/// The same tokens in the same lines.
fn without_comments(source: &str) -> String {
    // A source that can't be split goes to the compiler as it is, for its message.
    let Ok(tokens) = tokenize(source) else { return source.to_owned() };
    let mut result = String::with_capacity(source.len());
    let mut end = 0;
    for token in tokens {
        let between = source.get(end..token.range.start).unwrap_or_default();
        let newlines = between.matches('\n').count();
        match newlines {
            0 if !between.is_empty() => result.push(' '),
            _ => result.extend(std::iter::repeat_n('\n', newlines)),
        }
        result.push_str(token.text(source));
        end = token.range.end;
    }
    result.push('\n');
    result
}

/// What MLX calls a type in CUDA.
fn cuda_type(dtype: Dtype) -> &'static str {
    match dtype {
        Dtype::Float32 => "float",
        Dtype::Float16 => "__half",
        Dtype::Bfloat16 => "__nv_bfloat16",
        Dtype::Uint32 => "uint32_t",
        Dtype::Int32 => "int32_t",
        Dtype::Uint16 => "uint16_t",
        Dtype::Int16 => "int16_t",
        Dtype::Uint8 => "uint8_t",
        Dtype::Int8 => "int8_t",
        Dtype::Bool => "bool",
        Dtype::Uint64 => "uint64_t",
        Dtype::Int64 => "int64_t",
        Dtype::Float64 => "double",
        Dtype::Complex64 => "complex64_t",
    }
}
