//! The Rust side of `native/bridge.h`: what crosses to C++ and back.

use std::any::Any;
use std::ffi::{CString, c_char, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::slice;

use mlx_rs::{Array, Stream};
use mlx_sys::{mlx_array, mlx_stream};

use crate::gather::{Gathered, gather};
use crate::profile;
use crate::registered::{Registered, TensorLayout};
use crate::{Layout, Tensor, TensorMut};

pub(crate) type Text = unsafe extern "C" fn(context: *mut c_void, text: *const c_char, length: usize);
type Run = unsafe extern "C" fn(
    operation: *const c_void,
    inputs: *const RawTensor,
    outputs: *const RawTensor,
    report: Text,
    report_context: *mut c_void,
) -> bool;
type Drop = unsafe extern "C" fn(operation: *mut c_void);

#[repr(C)]
pub(crate) struct RawOutput {
    pub(crate) shape: *const i32,
    pub(crate) ndim: usize,
    pub(crate) dtype: u32,
    pub(crate) reuses: i32,
}

#[repr(C)]
struct RawTensor {
    data: *mut u8,
    strides: *const i64,
    moved: bool,
}

unsafe extern "C" {
    fn mlx_custom_apply(
        name: *const c_char,
        operation: *mut c_void,
        run: Run,
        drop: Drop,
        stream: mlx_stream,
        inputs: *const mlx_array,
        n_inputs: usize,
        outputs: *const RawOutput,
        n_outputs: usize,
        results: *mut mlx_array,
        report: Text,
        report_context: *mut c_void,
    ) -> bool;
}

// Strides come as 64-bit numbers and are read as `isize`.
const _: () = assert!(size_of::<isize>() == size_of::<i64>());

/// Makes a node of the graph, with one array per output. `reuses` is a table by output, `inputs` are those that the
/// operation was registered for.
pub(crate) fn add_to_graph(
    name: &str,
    registered: Box<Registered>,
    reuses: &[Option<usize>],
    inputs: &[&Array],
    stream: Option<&Stream>,
) -> Result<Vec<Array>, String> {
    // It becomes part of messages on the other side: see `run_operation` for the percent sign.
    let name = (!name.contains('%')).then(|| CString::new(name).ok()).flatten();
    let name = name.ok_or("an operation's name cannot hold a NUL or a percent sign")?;
    let shapes: Vec<Vec<i32>> = registered.outputs.iter().map(|output| to_i32(&output.tensor_type.shape)).collect();
    let outputs: Vec<RawOutput> = registered
        .outputs
        .iter()
        .zip(&shapes)
        .zip(reuses)
        .map(|((output, shape), donor)| RawOutput {
            shape: shape.as_ptr(),
            ndim: shape.len(),
            dtype: output.tensor_type.dtype.into(),
            reuses: donor.map_or(-1, |input| input as i32),
        })
        .collect();
    let inputs: Vec<mlx_array> = inputs.iter().map(|array| array.as_ptr()).collect();
    let mut results = vec![mlx_array { ctx: std::ptr::null_mut() }; outputs.len()];
    let mut message = String::new();
    // SAFETY: the declaration matches native/bridge.h. All slices outlive the call, which keeps none of them. It takes
    // over the boxed operation, and gives it back to `drop_operation` exactly once, after the last `run_operation`. `append`
    // is called with `message` during the call only.
    let succeeded = unsafe {
        mlx_custom_apply(
            name.as_ptr(),
            Box::into_raw(registered).cast(),
            run_operation,
            drop_operation,
            stream.map_or(mlx_stream { ctx: std::ptr::null_mut() }, Stream::as_ptr),
            inputs.as_ptr(),
            inputs.len(),
            outputs.as_ptr(),
            outputs.len(),
            results.as_mut_ptr(),
            append,
            (&raw mut message).cast(),
        )
    };
    if !succeeded {
        return Err(message);
    }
    // SAFETY: on success each result is a new array that nobody else owns.
    Ok(results.into_iter().map(|array| unsafe { Array::from_ptr(array) }).collect())
}

/// Lengths that were checked to fit.
fn to_i32(shape: &[usize]) -> Vec<i32> {
    shape.iter().map(|&len| len as i32).collect()
}

/// Receives a message from C++.
///
/// # Safety
/// `context` is a `String` that nobody else uses now; `text` has `length` bytes.
pub(crate) unsafe extern "C" fn append(context: *mut c_void, text: *const c_char, length: usize) {
    // SAFETY: the caller vouches for both.
    let (message, text) = unsafe { (&mut *context.cast::<String>(), slice::from_raw_parts(text.cast::<u8>(), length)) };
    message.push_str(&String::from_utf8_lossy(text));
}

/// Destroys an operation, on whichever thread drops the last node that uses it.
///
/// # Safety
/// `operation` comes from `Box::into_raw` in [`add_to_graph`] and is not used afterwards.
unsafe extern "C" fn drop_operation(operation: *mut c_void) {
    // SAFETY: the caller vouches for it.
    let registered = unsafe { Box::from_raw(operation.cast::<Registered>()) };
    // Nobody is there to hear of a panic in a destructor; the panic's own message is on stderr.
    let outcome = catch_unwind(AssertUnwindSafe(|| drop(registered)));
    if let Err(payload) = outcome {
        drop_payload(payload);
    }
}

/// Runs an operation on MLX's thread. After an error or a panic the outputs are poisoned, the message is passed on, and the
/// result is false.
///
/// # Safety
/// `operation` comes from `Box::into_raw` in [`add_to_graph`] and lives. `inputs` and `outputs` are as many as it was registered with, of
/// those shapes and types; nobody writes to the inputs, and nobody else uses the outputs, during the call. `report` takes
/// `report_context`.
unsafe extern "C" fn run_operation(
    operation: *const c_void,
    inputs: *const RawTensor,
    outputs: *const RawTensor,
    report: Text,
    report_context: *mut c_void,
) -> bool {
    // SAFETY: the caller vouches for all of them.
    let (registered, inputs, outputs) = unsafe {
        let registered = &*operation.cast::<Registered>();
        let inputs = slice::from_raw_parts(inputs, registered.inputs.len());
        let outputs = slice::from_raw_parts(outputs, registered.outputs.len());
        (registered, inputs, outputs)
    };
    // `AssertUnwindSafe`: what a panic may leave half done are the outputs, and those are poisoned.
    // SAFETY: as above.
    let outcome = catch_unwind(AssertUnwindSafe(|| unsafe { run(registered, inputs, outputs) }));
    let message = match outcome {
        Ok(Ok(())) => return true,
        Ok(Err(message)) => message,
        Err(payload) => {
            let message = format!("panicked: {}", panic_message(payload.as_ref()));
            drop_payload(payload);
            message
        }
    };
    // SAFETY: as above, and `run` has ended.
    unsafe { outputs_of(registered, outputs) }.iter_mut().for_each(TensorMut::poison);
    // mlx-c hands the text of an exception to printf as the format.
    let message = format!("{}: {message}", registered.operation.name()).replace('%', "%%");
    // SAFETY: the caller vouches for `report`; the text lives during the call.
    unsafe { report(report_context, message.as_ptr().cast(), message.len()) };
    false
}

/// # Safety
/// As [`run_operation`].
unsafe fn run(registered: &Registered, inputs: &[RawTensor], outputs: &[RawTensor]) -> Result<(), String> {
    // Row-major copies of inputs that are not; they live as long as the views.
    let mut copies: Vec<Gathered> = Vec::new();
    let mut tensors = Vec::with_capacity(inputs.len());
    for (number, (raw, (layout, wanted))) in inputs.iter().zip(&registered.inputs).enumerate() {
        // SAFETY: the caller vouches for the memory.
        tensors.push(unsafe { input(layout, *wanted, raw, number, &mut copies) }?);
    }
    // SAFETY: the caller vouches for the memory.
    let mut views = unsafe { outputs_of(registered, outputs) };
    if cfg!(debug_assertions) {
        // An element that an operation forgets to write shows.
        views.iter_mut().filter(|output| !output.holds_input()).for_each(TensorMut::poison);
    }
    let operation = &registered.operation;
    profile::measure(operation.name(), || operation.run(&tensors, &mut views)).map_err(|error| error.to_string())
}

/// The view of one input, of a copy of it where the operation wants it row-major and it isn't.
///
/// # Safety
/// As [`run_operation`]; the copies outlive the view.
unsafe fn input<'a>(
    layout: &'a TensorLayout,
    wanted: Layout,
    raw: &'a RawTensor,
    number: usize,
    copies: &mut Vec<Gathered>,
) -> Result<Tensor<'a>, String> {
    let row_major = layout.row_major_strides.as_slice();
    let mut data = raw.data.cast_const();
    if data.is_null() && layout.n_elements > 0 {
        return Err(format!("input {number} has no data"));
    }
    if raw.moved || layout.n_elements == 0 {
        let dangling = std::ptr::without_provenance(layout.element_size);
        // SAFETY: there is no element, or no access to any.
        return Ok(unsafe { Tensor::from_raw(layout, row_major, dangling, true, raw.moved, number) });
    }
    let (mut strides, mut is_contiguous) = (row_major, true);
    if !raw.strides.is_null() {
        // SAFETY: one stride per axis, kept by the caller; `isize` has the size of `i64`.
        strides = unsafe { slice::from_raw_parts(raw.strides.cast::<isize>(), row_major.len()) };
        is_contiguous = false;
    }
    // A buffer of bytes that was reinterpreted as wider elements need not be aligned for them.
    let is_aligned = data.addr().is_multiple_of(layout.element_size);
    if (wanted == Layout::Contiguous && !is_contiguous) || !is_aligned {
        // SAFETY: the caller vouches for the memory that the strides reach.
        let copy = unsafe { gather(data, &layout.tensor_type.shape, strides, layout.element_size) };
        // The elements are on the heap and stay where they are when the copy is moved.
        data = copy.as_ptr();
        copies.push(copy);
        (strides, is_contiguous) = (row_major, true);
    }
    // SAFETY: the memory is the caller's, or that of the copy; aligned either way.
    Ok(unsafe { Tensor::from_raw(layout, strides, data, is_contiguous, false, number) })
}

/// # Safety
/// As [`run_operation`]; and no other view of the outputs exists.
unsafe fn outputs_of<'a>(registered: &'a Registered, outputs: &'a [RawTensor]) -> Vec<TensorMut<'a>> {
    let views = outputs.iter().zip(&registered.outputs).enumerate().map(|(number, (raw, layout))| {
        let data = if raw.data.is_null() { std::ptr::without_provenance_mut(layout.element_size) } else { raw.data };
        // SAFETY: the caller vouches for the memory. An output has a buffer of its own from MLX's allocator, or
        // took over one that was checked to be row-major.
        unsafe { TensorMut::from_raw(layout, data, raw.moved, number) }
    });
    views.collect()
}

/// What a panic said.
fn panic_message(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<&'static str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("(no message)")
}

/// Drops what a panic carried, which may itself panic.
fn drop_payload(payload: Box<dyn Any + Send>) {
    if let Err(second) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        std::mem::forget(second);
    }
}
