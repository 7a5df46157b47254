//! Sizes whose product passes 2^32, without the memory for them.
//!
//! A kernel is told that its threads are the last ones of a huge problem, and that `x` and `out` begin so far in front of the
//! small arrays which exist that these threads find them there. An index that wraps leads out of its array, and the emulator
//! says so.

use grader::{Rng, check_rule};
use mlx_custom::gpu::{GpuBackend, GpuKernel, Launch, TemplateValue};
use mlx_rs::{Array, Dtype};
use tiny_llm::quantized::gpu::operands::Operands;

use crate::gpu_kernels::products;
use crate::must;
use crate::quantized_matrices::{Format, Matrix, f32s, random_activations};

/// The first token of those that are computed. With 64 outputs and inputs a token, both indices pass 2^32 there.
const FIRST_TOKEN: u64 = 1 << 26;
const SIZE: usize = 64;

/// How a kernel divides the work, and which of its threadgroups computes the first of the far tokens.
pub struct FarLaunch<'a> {
    pub kernel: &'a GpuKernel,
    /// Beside the constants that all kernels take.
    pub template: &'a [(&'static str, TemplateValue)],
    /// Of the small problem.
    pub tokens: usize,
    pub grid: [usize; 3],
    pub threadgroup: usize,
    /// The far position of a threadgroup, as an expression of `near`, its position in the small problem.
    pub threadgroup_position: &'static str,
    /// The axis along which threads count tokens, if a thread has a token of its own.
    pub token_axis: Option<usize>,
}

/// The kernel near and far. Near, it may fail for any reason; if only the far one does, indices wrap.
pub fn check_far_tokens(launch: &FarLaunch<'_>) {
    let name = format!("{} for the tokens from {FIRST_TOKEN} on, {SIZE} inputs and outputs", launch.kernel.name);
    let format = Format { group_size: 32, bits: 4 };
    let matrix = Matrix::random(&mut Rng::new(30), [SIZE, SIZE], format, Dtype::Float16);
    let x = random_activations(&mut Rng::new(31), launch.tokens, SIZE);
    let x = must(Array::from_slice(&x, &[launch.tokens as i32, SIZE as i32]).as_dtype(Dtype::Float16));
    let packed = matrix.in_mlx();
    let operands = must(Operands::new(GpuBackend::Emulator, &x, &packed, None));
    let expected = products(&matrix, &f32s(&x), Dtype::Float16);
    let run = |kernel: &GpuKernel| -> Result<(), String> {
        let description = Launch {
            template: &operands.template(launch.template),
            outputs: &[operands.output()],
            grid: launch.grid,
            threadgroup: [launch.threadgroup, 1, 1],
            fill: None,
        };
        let outputs = kernel.launch_on(GpuBackend::Emulator, &operands.arrays(), &description);
        let out = outputs.map_err(|error| error.to_string())?.remove(0);
        out.eval().map_err(|error| error.to_string())?;
        for (at, (got, expected)) in f32s(&out).into_iter().zip(&expected).enumerate() {
            let error = (f64::from(got) - expected.value).abs();
            if error.is_nan() || error > expected.off {
                return Err(format!("output {at} is {got}, exactly {}", expected.value));
            }
        }
        Ok(())
    };
    if let Err(seen) = run(launch.kernel) {
        panic!("{} for {} tokens: {seen}", launch.kernel.name, launch.tokens);
    }
    let cause = "looks like: an index such as m * N is computed in 32 bits and wraps; tokens times outputs may pass 2^32, so \
                 it is size_t(m) * N + n";
    check_rule(&name, run(&far_kernel(launch)), cause);
}

/// The kernel's body in a block in which the names of the launch mean the far problem. All on one line, so that lines keep their
/// numbers.
fn far_kernel(launch: &FarLaunch<'_>) -> GpuKernel {
    let (first, tokens) = (FIRST_TOKEN, FIRST_TOKEN + launch.tokens as u64);
    let thread = match launch.token_axis {
        Some(1) => format!("uint3(0, {first}u, 0)"),
        Some(_) => format!("uint3({first}u, 0, 0)"),
        None => "uint3(0, 0, 0)".to_owned(),
    };
    // Threadgroup memory is declared outside of all braces: the block begins after it.
    let body = launch.kernel.body;
    let is_shared = |line: &str| line.starts_with("threadgroup ");
    let n_before = body.lines().collect::<Vec<_>>().iter().rposition(|line| is_shared(line)).map_or(0, |last| last + 1);
    let split = body.split_inclusive('\n').take(n_before).map(str::len).sum();
    let (before, inside) = body.split_at(split);
    let body = format!(
        "{before}const uint3 near = threadgroup_position_in_grid; const uint3 near_thread = thread_position_in_grid; \
         const device T* near_x = x; device T* near_out = out; {{ \
         const int x_shape[2] = {{{tokens}, {SIZE}}}; \
         const uint3 threadgroup_position_in_grid = {position}; \
         const uint3 thread_position_in_grid = near_thread + {thread}; \
         const device T* x = near_x - size_t({first}) * {SIZE}; device T* out = near_out - size_t({first}) * {SIZE}; \
         {inside}\n}}", // a comment may end the body
        position = launch.threadgroup_position,
    );
    // A kernel's source lives as long as the program.
    GpuKernel { body: Box::leak(body.into_boxed_str()), ..*launch.kernel }
}
