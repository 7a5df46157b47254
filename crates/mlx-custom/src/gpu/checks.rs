//! What is checked before a kernel is handed to a backend, so that each mistake gets the same message everywhere.

use std::collections::HashSet;
use std::sync::{LazyLock, PoisonError, RwLock};

use mlx_rs::{Array, Dtype};

use crate::gpu::tokens::{TokenKind, tokenize};
use crate::gpu::{GpuKernel, Launch, Lowered, TemplateValue};

/// More threads share no threadgroup memory on any backend.
const MAX_THREADS: usize = 1024;
/// Threads of a SIMD group, on all backends.
const SIMD_WIDTH: usize = 32;

/// Reads a kernel's sources, the first time: are they written, and can every backend take them?
///
/// # Errors
/// One sentence with the kernel's name: what is left to write, or the line that can't be taken.
pub(crate) fn sources(kernel: &GpuKernel) -> Result<(), String> {
    /// Where a source lies, and how long it is. Sources are `'static`, so that says which it is.
    type Place = (usize, usize);
    /// Bodies and headers that were read before: reading them takes longer than a start should.
    static GOOD: LazyLock<RwLock<HashSet<[Place; 2]>>> = LazyLock::new(RwLock::default);
    let places = [kernel.body, kernel.header].map(|source| (source.as_ptr().addr(), source.len()));
    if GOOD.read().unwrap_or_else(PoisonError::into_inner).contains(&places) {
        return Ok(());
    }
    is_written(kernel).map_err(|message| format!("{}: {message}", kernel.name))?;
    Lowered::new(kernel).map_err(|error| error.in_body_of(kernel))?;
    GOOD.write().unwrap_or_else(PoisonError::into_inner).insert(places);
    Ok(())
}

/// What is the same at every start of a kernel with these types and constants.
///
/// # Errors
/// One sentence about the first thing that is wrong.
pub(crate) fn kind(kernel: &GpuKernel, inputs: &[&Array], launch: &Launch<'_>) -> Result<(), String> {
    names(kernel, launch)?;
    counts(kernel, inputs.len(), launch)?;
    for (input, name) in inputs.iter().zip(kernel.inputs) {
        element_type(input.dtype()).ok_or_else(|| format!("input {name} is {:?}, {KNOWN}", input.dtype()))?;
    }
    for (name, value) in launch.template {
        if let TemplateValue::Dtype(dtype) = value {
            element_type(*dtype).ok_or_else(|| format!("template argument {name} is {dtype:?}, {KNOWN}"))?;
        }
    }
    for (output, name) in launch.outputs.iter().zip(kernel.outputs) {
        element_type(output.dtype).ok_or_else(|| format!("output {name} is {:?}, {KNOWN}", output.dtype))?;
    }
    Ok(())
}

/// What can differ from start to start: the grid, and the shapes of the outputs. Counts and types were checked.
///
/// # Errors
/// As [`kind`].
pub(crate) fn sizes(kernel: &GpuKernel, launch: &Launch<'_>) -> Result<(), String> {
    grid(kernel, launch)?;
    for (number, (output, name)) in launch.outputs.iter().zip(kernel.outputs).enumerate() {
        let size = element_type(output.dtype).unwrap_or(1);
        output.check_size("output", number, size).map_err(|error| error.to_string())?;
        if output.n_elements() == 0 {
            return Err(format!("output {name} has shape {:?}: there is nothing to compute", output.shape));
        }
    }
    Ok(())
}

const KNOWN: &str = "but kernels take Float32, Float16, Bfloat16, Uint32, Int32, Uint16, Int16, Uint8, Int8 and Bool";

/// The size of an element in bytes; `None` for types that not every backend has.
pub(crate) fn element_type(dtype: Dtype) -> Option<usize> {
    match dtype {
        Dtype::Float32 | Dtype::Uint32 | Dtype::Int32 => Some(4),
        Dtype::Float16 | Dtype::Bfloat16 | Dtype::Uint16 | Dtype::Int16 => Some(2),
        Dtype::Uint8 | Dtype::Int8 | Dtype::Bool => Some(1),
        _ => None,
    }
}

/// A kernel that the reader hasn't written holds `todo!("...")`; the message is that of Rust's macro.
fn is_written(kernel: &GpuKernel) -> Result<(), String> {
    for source in [kernel.body, kernel.header] {
        // A source that can't be split is reported by the backend, with its line.
        let Ok(tokens) = tokenize(source) else { continue };
        for words in tokens.windows(4) {
            let [name, mark, open, message] = words else { continue };
            let is_todo = name.text(source) == "todo" && mark.text(source) == "!" && open.text(source) == "(";
            if is_todo && message.kind == TokenKind::Text {
                return Err(format!("not yet implemented: {}", message.text(source).trim_matches('"')));
            }
        }
    }
    Ok(())
}

fn names(kernel: &GpuKernel, launch: &Launch<'_>) -> Result<(), String> {
    let is_name = |name: &str| {
        let starts = name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_');
        starts && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    let template = launch.template.iter().map(|(name, _)| name);
    let mut all: Vec<&str> = kernel.inputs.iter().chain(kernel.outputs).chain(template).copied().collect();
    if let Some(name) = all.iter().chain([&kernel.name]).find(|name| !is_name(name)) {
        return Err(format!("{name:?} is no name: letters, digits and _ only, and no digit in front"));
    }
    all.sort_unstable();
    match all.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(format!("two inputs, outputs or template arguments are called {}", pair[0])),
        None => Ok(()),
    }
}

fn counts(kernel: &GpuKernel, n_inputs: usize, launch: &Launch<'_>) -> Result<(), String> {
    if n_inputs != kernel.inputs.len() {
        return Err(format!("takes {} inputs ({}), got {n_inputs}", kernel.inputs.len(), kernel.inputs.join(", ")));
    }
    let n_outputs = launch.outputs.len();
    if n_outputs != kernel.outputs.len() {
        let names = kernel.outputs.join(", ");
        return Err(format!("has {} outputs ({names}), the launch describes {n_outputs}", kernel.outputs.len()));
    }
    if n_outputs == 0 {
        return Err("has no output".to_owned());
    }
    Ok(())
}

fn grid(kernel: &GpuKernel, launch: &Launch<'_>) -> Result<(), String> {
    let Launch { grid, threadgroup, .. } = launch;
    for (axis, (&threads, &group)) in ["x", "y", "z"].iter().zip(grid.iter().zip(threadgroup)) {
        if group == 0 || threads == 0 {
            return Err(format!("grid {grid:?} and threadgroup {threadgroup:?} must be at least 1 along each axis"));
        }
        if threads % group != 0 {
            let next = threads.div_ceil(group) * group;
            return Err(format!(
                "a grid of {threads} threads along {axis} is no multiple of the threadgroup's {group}; start {next} and let the rest return early"
            ));
        }
        // CUDA's limits for threadgroups along y and z.
        let limit = if *axis == "x" { i32::MAX as usize } else { 65535 };
        if i32::try_from(threads).is_err() || threads / group > limit {
            return Err(format!(
                "a grid of {threads} threads along {axis} is too large ({limit} threadgroups at most)"
            ));
        }
    }
    let in_group: usize = threadgroup.iter().product();
    if in_group > MAX_THREADS || threadgroup[2] > 64 {
        return Err(format!(
            "a threadgroup of {threadgroup:?} has {in_group} threads; {MAX_THREADS} are the most, and 64 along z"
        ));
    }
    if !in_group.is_multiple_of(SIMD_WIDTH) && uses_simd_groups(kernel) {
        return Err(format!(
            "uses SIMD groups, so its threadgroups need whole ones: {in_group} is no multiple of {SIMD_WIDTH}"
        ));
    }
    Ok(())
}

fn uses_simd_groups(kernel: &GpuKernel) -> bool {
    let tokens = tokenize(kernel.body).unwrap_or_default();
    let mut words = tokens.iter().map(|token| token.text(kernel.body));
    words.any(|word| word.starts_with("simd_") || word.starts_with("tile_") || word == "simdgroup_barrier")
}
