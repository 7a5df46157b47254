use mlx_rs::error::Exception;
use mlx_rs::{Array, thread_local_default_stream};

use crate::bridge;
use crate::registered::{Registered, TensorLayout};
use crate::{CpuOperation, OperationError, TensorType};

/// Adds `operation` on `inputs` to the graph and returns its outputs, which nothing has computed yet.
///
/// # Errors
/// What [`CpuOperation::outputs`] refuses; an element type other than f32, f16, bf16, u32, i32 and u8, among the inputs or
/// the outputs; no output, or one that is too large; [`CpuOperation::reuses`] naming what isn't there, or
/// tensors that differ. The message begins with the operation's name.
///
/// An error in [`CpuOperation::run`] comes later, from the `eval` that needs the outputs.
#[track_caller]
pub fn apply(operation: impl CpuOperation, inputs: &[&Array]) -> Result<Vec<Array>, Exception> {
    let name = operation.name();
    let (registered, reuses) =
        register(operation, inputs).map_err(|error| Exception::custom(format!("{name}: {error}")))?;
    // A GPU stream is replaced by the default CPU stream on the other side.
    let stream = thread_local_default_stream();
    bridge::add_to_graph(name, registered, &reuses, inputs, stream.as_ref())
        .map_err(|message| Exception::custom(format!("{name}: {message}")))
}

/// [`apply`] for an operation whose number of outputs is known: `let [q, k, v] = apply_n(operation, &[&x])?;`
///
/// # Errors
/// As [`apply`], and when the operation has another number of outputs.
#[track_caller]
pub fn apply_n<const N: usize>(operation: impl CpuOperation, inputs: &[&Array]) -> Result<[Array; N], Exception> {
    let name = operation.name();
    <[Array; N]>::try_from(apply(operation, inputs)?)
        .map_err(|outputs| Exception::custom(format!("{name}: {} outputs where {N} are expected", outputs.len())))
}

/// The operation with all that it says about these inputs, checked; and per output the input that it may take over.
fn register(
    operation: impl CpuOperation,
    arrays: &[&Array],
) -> Result<(Box<Registered>, Vec<Option<usize>>), OperationError> {
    let input_types: Vec<TensorType> = arrays.iter().map(|array| type_of(array)).collect();
    let output_types = operation.outputs(&input_types)?;
    if output_types.is_empty() {
        return Err("an operation needs at least one output".into());
    }
    let reuses = check_reuses(operation.reuses(), &input_types, &output_types)?;

    let mut inputs = Vec::with_capacity(input_types.len());
    for (i, tensor_type) in input_types.into_iter().enumerate() {
        let element_size = tensor_type.element_size("input", i)?;
        inputs.push((TensorLayout::new(tensor_type, element_size), operation.layout(i)));
    }
    let mut outputs = Vec::with_capacity(output_types.len());
    for (i, tensor_type) in output_types.into_iter().enumerate() {
        let element_size = tensor_type.element_size("output", i)?;
        tensor_type.check_size("output", i, element_size)?;
        outputs.push(TensorLayout::new(tensor_type, element_size));
    }
    Ok((Box::new(Registered { operation: Box::new(operation), inputs, outputs }), reuses))
}

fn type_of(array: &Array) -> TensorType {
    // MLX's lengths are not negative.
    TensorType { shape: array.shape().iter().map(|&len| len as usize).collect(), dtype: array.dtype() }
}

/// Turns the pairs into a table by output, if they make sense.
fn check_reuses(
    pairs: &[(usize, usize)],
    inputs: &[TensorType],
    outputs: &[TensorType],
) -> Result<Vec<Option<usize>>, OperationError> {
    let mut donor_of_output = vec![None; outputs.len()];
    for &(input, output) in pairs {
        let (Some(from), Some(to)) = (inputs.get(input), outputs.get(output)) else {
            return Err(format!(
                "`reuses` names input {input} and output {output}, of {} inputs and {} outputs",
                inputs.len(),
                outputs.len()
            )
            .into());
        };
        if from != to {
            return Err(format!(
                "output {output} ({}) cannot take over the buffer of input {input} ({})",
                describe(to),
                describe(from)
            )
            .into());
        }
        if donor_of_output[output].is_some() || donor_of_output.contains(&Some(input)) {
            return Err(format!("`reuses` names input {input} or output {output} twice").into());
        }
        donor_of_output[output] = Some(input);
    }
    Ok(donor_of_output)
}

fn describe(tensor_type: &TensorType) -> String {
    format!("{:?} {:?}", tensor_type.dtype, tensor_type.shape)
}
