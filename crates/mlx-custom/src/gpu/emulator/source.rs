//! Puts the C++ source of a kernel together.

use std::fmt::Write;

use mlx_rs::Dtype;

use crate::TensorType;
use crate::gpu::{GpuKernel, Lowered, TemplateValue};

/// Concatenates files of `native/emulator`, each under its own name in messages of the compiler.
macro_rules! sources {
    ($($file:literal),* $(,)?) => {
        concat!($("#line 1 \"emulator/", $file, "\"\n", include_str!(concat!("../../../native/emulator/", $file)), "\n"),*)
    };
}

/// What stands before a kernel: Metal in C++.
pub(super) const PRELUDE: &str =
    sources!("abi.h", "half.h", "vectors.h", "math.h", "simd.h", "tiles.h", "wide.h", "copies.h", "names.h");

/// What runs kernels; compiled once for all of them.
pub(super) const RUNTIME: &str = sources!(
    "abi.h",
    "switch.h",
    "fibers.h",
    "findings.h",
    "waiting.h",
    "watch.h",
    "memory.h",
    "tile_product.h",
    "hooks.h",
    "run.h"
);

/// The function that is called for each thread.
pub(super) const ENTRY: &str = "emu_kernel";

/// Words in a source that make threads wait for each other.
const WAITING_WORDS: [&str; 4] = ["barrier", "simd_", "tile_", "wide_"];

/// An input as the kernel sees it.
pub(super) struct Parameter<'a> {
    pub name: &'a str,
    pub tensor: &'a TensorType,
}

/// Whether the source may make threads wait for each other. If it does so although none of these words occurs, the runtime notices.
pub(super) fn waits(lowered: &Lowered) -> bool {
    WAITING_WORDS.iter().any(|word| lowered.body.contains(word) || lowered.header.contains(word))
}

/// A kernel's source, to stand behind the [`PRELUDE`]. Its function takes the arrays' first elements, then per input shape, strides and number of axes.
pub(super) fn kernel(
    kernel: &GpuKernel,
    lowered: &Lowered,
    inputs: &[Parameter<'_>],
    outputs: &[Parameter<'_>],
    template: &[(&'static str, TemplateValue)],
) -> String {
    let name = kernel.name;
    let mut source = String::new();
    // Writing into a String can't fail.
    let _ = writeln!(source, "#line 1 \"header of kernels/{name}.metal\"\n{}", lowered.header);
    source.push_str("#line 1 \"emulator/entry\"\n");
    let _ = writeln!(source, "EMU_EXPORT void {ENTRY}(const emu::Thread& emu_thread, void* const* emu_arguments) {{");
    for (name, value) in template {
        let _ = match value {
            TemplateValue::Int(value) => writeln!(source, "[[maybe_unused]] constexpr int {name} = {value};"),
            TemplateValue::Bool(value) => writeln!(source, "[[maybe_unused]] constexpr bool {name} = {value};"),
            TemplateValue::Dtype(dtype) => writeln!(source, "using {name} = {};", type_name(*dtype)),
        };
    }
    parameters(&mut source, inputs, outputs);
    source.push_str(INDICES);
    let mut number = 0;
    let body = lowered.body_with(|array| {
        number += 1;
        format!(
            "[[maybe_unused]] auto& {name} = emu::threadgroup_memory<{element} {lengths}>({index}, \"{name}\");",
            name = array.name,
            element = array.element,
            lengths = array.lengths,
            index = number - 1
        )
    });
    // In a block of its own, so that it may declare names that the lines above declare too.
    let _ = write!(source, "{{\n#line 1 \"kernels/{name}.metal\"\n{body}\n}}\n}}\n");
    source
}

fn parameters(source: &mut String, inputs: &[Parameter<'_>], outputs: &[Parameter<'_>]) {
    for (i, Parameter { name, tensor }) in inputs.iter().enumerate() {
        let element = type_name(tensor.dtype);
        let place = format!("static_cast<const {element}*>(emu_arguments[{i}])");
        let _ = if tensor.shape.is_empty() {
            // As MLX does it: a scalar is a reference.
            writeln!(source, "[[maybe_unused]] const {element}& {name} = *{place};")
        } else {
            writeln!(source, "[[maybe_unused]] const {element}* {name} = {place};")
        };
    }
    for (i, Parameter { name, tensor }) in outputs.iter().enumerate() {
        let (element, i) = (type_name(tensor.dtype), inputs.len() + i);
        let _ = writeln!(source, "[[maybe_unused]] {element}* {name} = static_cast<{element}*>(emu_arguments[{i}]);");
    }
    for (i, Parameter { name, tensor }) in inputs.iter().enumerate() {
        let at = inputs.len() + outputs.len() + 2 * i;
        let ndim = tensor.shape.len();
        let _ = writeln!(
            source,
            "[[maybe_unused]] const int* {name}_shape = static_cast<const int*>(emu_arguments[{at}]);\n\
             [[maybe_unused]] const int64_t* {name}_strides = static_cast<const int64_t*>(emu_arguments[{}]);\n\
             [[maybe_unused]] constexpr int {name}_ndim = {ndim};",
            at + 1
        );
    }
}

/// The indices that Metal hands to a kernel.
const INDICES: &str = "\
[[maybe_unused]] const uint3 thread_position_in_grid = EMU_UINT3(emu_thread.position_in_grid);
[[maybe_unused]] const uint3 threads_per_grid = EMU_UINT3(emu_thread.threads_per_grid);
[[maybe_unused]] const uint3 threadgroup_position_in_grid = EMU_UINT3(emu_thread.threadgroup_position);
[[maybe_unused]] const uint3 threadgroups_per_grid = EMU_UINT3(emu_thread.threadgroups);
[[maybe_unused]] const uint3 thread_position_in_threadgroup = EMU_UINT3(emu_thread.position_in_threadgroup);
[[maybe_unused]] const uint3 threads_per_threadgroup = EMU_UINT3(emu_thread.threads_per_threadgroup);
[[maybe_unused]] const uint thread_index_in_threadgroup = emu_thread.index;
[[maybe_unused]] const uint thread_index_in_simdgroup = emu_thread.lane;
[[maybe_unused]] const uint simdgroup_index_in_threadgroup = emu_thread.simd_group;
[[maybe_unused]] const uint simdgroups_per_threadgroup = emu_thread.n_simd_groups;
[[maybe_unused]] const uint threads_per_simdgroup = emu::LANES;
";

/// What kernels call a type; only those that operations take.
fn type_name(dtype: Dtype) -> &'static str {
    match dtype {
        Dtype::Float32 => "float",
        Dtype::Float16 => "half",
        Dtype::Bfloat16 => "bfloat16_t",
        Dtype::Uint32 => "uint",
        Dtype::Int32 => "int",
        Dtype::Uint8 => "uchar",
        Dtype::Int8 => "char",
        Dtype::Uint16 => "ushort",
        Dtype::Int16 => "short",
        Dtype::Uint64 => "ulong",
        Dtype::Int64 => "long",
        Dtype::Bool => "bool",
        // `apply` refuses arrays of other types, and a template has no use for them.
        _ => "void",
    }
}
