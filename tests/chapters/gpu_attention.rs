//! Attention by the GPU's kernels, on every backend that this machine has, compared with fixtures and with MLX.

use grader::report::{Status, grade};
use grader::{Case, Tolerance, check_close, check_rule, strided};
use mlx_custom::gpu::GpuBackend;
use mlx_rs::ops::indexing::TryIndexOp;
use mlx_rs::{Array, Dtype};
use tiny_llm::flash_attention::gpu::{KernelChoice, flash_attention_gpu_with};
use tiny_llm::{AttentionMask, Result};

use crate::tiled::{Inputs, must};

/// How an input lies in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Memory {
    RowMajor,
    /// The axes in another order, so that nothing is contiguous.
    OtherOrder,
    /// The first tokens of a buffer with room for more, as a cache has it.
    PartOfCache,
}

impl Memory {
    /// The same numbers, `[B, H, N, D]`, lying so.
    pub fn lay(self, array: &Array) -> Result<Array> {
        Ok(match self {
            Self::RowMajor => array.clone(),
            Self::OtherOrder => strided(array)?,
            Self::PartOfCache => {
                let [batch, heads, len, head_dim] = [0, 1, 2, 3].map(|axis| array.dim(axis));
                // What is behind the filled part must not be read: NaN would be seen in every answer.
                let rest = mlx_rs::ops::full::<f32>(&[batch, heads, 5, head_dim], Array::from_f32(f32::NAN))?;
                let buffer = mlx_rs::ops::concatenate(&[array.clone(), rest.as_dtype(array.dtype())?], 2)?;
                buffer.eval()?;
                buffer.try_index((.., .., ..len))?
            }
        })
    }
}

pub fn mask_of(case: &Case) -> AttentionMask {
    match case.str("mask").as_str() {
        "none" => AttentionMask::None,
        "causal" => AttentionMask::Causal,
        _ => AttentionMask::Array(case.array("mask")),
    }
}

/// Runs a case with a kernel, on every backend.
pub fn check_case(case: &Case, choice: KernelChoice, memory: Memory) {
    for backend in GpuBackend::available() {
        let run = |memory: Memory| {
            let [query, key, value] = ["query", "key", "value"].map(|name| memory.lay(&case.array(name)));
            let (scale, mask) = (case.optional_f32("scale"), mask_of(case));
            flash_attention_gpu_with(&query?, &key?, &value?, scale, &mask, backend, choice)
        };
        if memory != Memory::RowMajor && is_right(case, &run(Memory::RowMajor)) {
            let answer = run(memory);
            let holds = if is_right(case, &answer) { Ok(()) } else { Err(what_went_wrong(answer)) };
            let cause = "looks like: an array is read as if it lay in memory row by row; read query, key and value through all \
                         four of their strides";
            check_rule(
                &format!("{}, {memory:?}: the same numbers in row-major order give the right answer", case.name()),
                holds,
                cause,
            );
        } else {
            case.check(run(memory));
        }
    }
}

fn is_right(case: &Case, answer: &Result<Array>) -> bool {
    answer.as_ref().is_ok_and(|answer| grade(case, "", answer).status == Status::Pass)
}

/// An error's text, also of one that comes with the evaluation.
fn what_went_wrong(answer: Result<Array>) -> String {
    match answer.and_then(|answer| Ok(answer.eval()?)) {
        Ok(()) => "the answer is wrong".to_owned(),
        Err(error) => error.to_string(),
    }
}

/// A mask that broadcasts against the same one written out in full: if only the first fails, its strides are not used.
pub fn check_broadcast_mask(inputs: &Inputs, mask: &Array) {
    let shape =
        [0, 1, 2].map(|axis| inputs.query.dim(axis)).into_iter().chain([inputs.key.dim(2)]).collect::<Vec<i32>>();
    let broadcast = must(mlx_rs::ops::broadcast_to(mask, &shape));
    let full = must(broadcast.contiguous());
    check_inputs(inputs, &AttentionMask::Array(full.clone()), KernelChoice::Plain);
    let expected = must(inputs.oracle(&AttentionMask::Array(full)).as_dtype(Dtype::Float32));
    for backend in GpuBackend::available() {
        let mask_array = AttentionMask::Array(mask.clone());
        let Inputs { query, key, value } = inputs;
        let answer = flash_attention_gpu_with(query, key, value, None, &mask_array, backend, KernelChoice::Plain);
        let is_right = answer.as_ref().is_ok_and(|answer| {
            let near = answer.as_dtype(Dtype::Float32).and_then(|answer| answer.all_close(&expected, 1e-4, 1e-4, None));
            near.is_ok_and(|near| near)
        });
        let holds = if is_right { Ok(()) } else { Err(what_went_wrong(answer)) };
        let cause = "looks like: the mask is read as if all of [B, H_q, L, S] lay in memory; one that broadcasts has strides of 0, so \
                     use all four of mask_strides";
        let name =
            format!("a mask {:?} of {:?}; written out in full it gives the right answer", mask.shape(), mask.dtype());
        check_rule(&name, holds, cause);
    }
}

/// Compares a kernel's answer with MLX's in f32, on every backend.
#[track_caller]
pub fn check_inputs(inputs: &Inputs, mask: &AttentionMask, choice: KernelChoice) {
    check_inputs_on(GpuBackend::available(), inputs, mask, choice);
}

/// The same on some of the backends.
#[track_caller]
pub fn check_inputs_on(
    backends: impl IntoIterator<Item = GpuBackend>,
    inputs: &Inputs,
    mask: &AttentionMask,
    choice: KernelChoice,
) {
    let expected = inputs.oracle(mask);
    for backend in backends {
        let got = flash_attention_gpu_with(&inputs.query, &inputs.key, &inputs.value, None, mask, backend, choice);
        let (query, key) = (inputs.query.shape(), inputs.key.shape());
        let name = format!("query {query:?}, key {key:?}, {:?}, {choice:?} on {backend:?}", inputs.query.dtype());
        check_close(&name, got, &expected, tolerance(inputs.query.dtype()));
    }
}

/// A last place of the dtype, which also covers weights that matrix units take in 16 bits, and f32's error for sums.
pub fn tolerance(dtype: Dtype) -> Tolerance {
    let ulp = match dtype {
        Dtype::Bfloat16 => 0.008,
        Dtype::Float16 => 0.001,
        _ => 2e-5,
    };
    Tolerance { atol: ulp, rtol: ulp }
}

/// Query, key and value with `key` and `value` in the first tokens of a cache.
pub fn in_cache(inputs: Inputs) -> Inputs {
    let lay = |array: &Array| must(Memory::PartOfCache.lay(array));
    Inputs { key: lay(&inputs.key), value: lay(&inputs.value), query: inputs.query }
}
