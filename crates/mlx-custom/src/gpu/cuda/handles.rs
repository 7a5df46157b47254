//! Kernels as `native/cuda_kernel.cpp` keeps them.

use std::ffi::{CString, c_char, c_void};
use std::path::Path;
use std::ptr::{self, NonNull};

use mlx_rs::error::Exception;
use mlx_rs::{Array, Stream};
use mlx_sys::{mlx_array, mlx_stream};

use crate::bridge::{RawOutput, Text, append};
use crate::gpu::cuda::Source;
use crate::gpu::{GpuKernel, Launch};

#[repr(C)]
struct RawKernel {
    _private: [u8; 0],
}

// native/bridge.h declares the same; change both together.
unsafe extern "C" {
    fn mlx_custom_cuda_kernel_new(
        name: *const c_char,
        inputs: *const *const c_char,
        n_inputs: usize,
        outputs: *const *const c_char,
        n_outputs: usize,
        header: *const c_char,
        body: *const c_char,
        stand_in: *const c_char,
        folder: *const c_char,
        row_major: bool,
        dynamic_bytes: i32,
        report: Text,
        report_context: *mut c_void,
    ) -> *mut RawKernel;
    fn mlx_custom_cuda_kernel_free(kernel: *mut RawKernel);
    fn mlx_custom_cuda_kernel_start(
        kernel: *mut RawKernel,
        stream: mlx_stream,
        grid: *const i32,
        threadgroup: *const i32,
        fill: *const f32,
        inputs: *const mlx_array,
        n_inputs: usize,
        outputs: *const RawOutput,
        n_outputs: usize,
        results: *mut mlx_array,
        report: Text,
        report_context: *mut c_void,
    ) -> bool;
}

/// A kernel as MLX knows it: a name, a source, what it takes and gives.
pub(crate) struct Kernel {
    raw: NonNull<RawKernel>,
    name: &'static str,
}

// SAFETY: C++ takes a lock around everything that a start changes, and the last owner frees it.
unsafe impl Send for Kernel {}
// SAFETY: as above.
unsafe impl Sync for Kernel {}

impl Kernel {
    /// `folder`: where it is compiled, if it is.
    ///
    /// # Errors
    /// MLX has no CUDA.
    pub(super) fn new(
        name: &str,
        kernel: &GpuKernel,
        source: &Source,
        folder: Option<&Path>,
    ) -> Result<Self, Exception> {
        let texts = |names: &[&str]| names.iter().map(|name| c_string(name)).collect::<Result<Vec<_>, _>>();
        let (inputs, outputs) = (texts(kernel.inputs)?, texts(kernel.outputs)?);
        let pointers = |texts: &[CString]| texts.iter().map(|text| text.as_ptr()).collect::<Vec<_>>();
        let (input_names, output_names) = (pointers(&inputs), pointers(&outputs));
        let (name, header, body) = (c_string(name)?, c_string(&source.header)?, c_string(&source.body)?);
        let stand_in = c_string(&source.stand_in(kernel))?;
        let folder = folder.and_then(|folder| CString::new(folder.as_os_str().as_encoded_bytes()).ok());
        let dynamic_bytes = to_i32(source.dynamic_bytes)?;
        let mut message = String::new();
        // SAFETY: the declaration matches native/bridge.h. All texts end with NUL and live during the call, which copies them.
        // `append` is called with `message` during the call only.
        let raw = unsafe {
            mlx_custom_cuda_kernel_new(
                name.as_ptr(),
                input_names.as_ptr(),
                input_names.len(),
                output_names.as_ptr(),
                output_names.len(),
                header.as_ptr(),
                body.as_ptr(),
                stand_in.as_ptr(),
                folder.as_ref().map_or(ptr::null(), |folder| folder.as_ptr()),
                !kernel.strided,
                dynamic_bytes,
                append,
                (&raw mut message).cast(),
            )
        };
        let raw = NonNull::new(raw).ok_or_else(|| refused(kernel.name, &message))?;
        Ok(Self { raw, name: kernel.name })
    }

    /// Adds a start of the kernel to the graph.
    ///
    /// # Errors
    /// MLX has no CUDA; a number that does not fit.
    pub(super) fn start(
        &self,
        inputs: &[&Array],
        launch: &Launch<'_>,
        stream: &Stream,
    ) -> Result<Vec<Array>, Exception> {
        let [grid, threadgroup] = [to_three(launch.grid)?, to_three(launch.threadgroup)?];
        let shapes: Vec<Vec<i32>> = launch
            .outputs
            .iter()
            .map(|output| output.shape.iter().map(|&len| to_i32(len)).collect())
            .collect::<Result<_, _>>()?;
        let outputs: Vec<RawOutput> = launch
            .outputs
            .iter()
            .zip(&shapes)
            .map(|(output, shape)| RawOutput {
                shape: shape.as_ptr(),
                ndim: shape.len(),
                dtype: output.dtype.into(),
                reuses: -1,
            })
            .collect();
        let inputs: Vec<mlx_array> = inputs.iter().map(|array| array.as_ptr()).collect();
        let mut results = vec![mlx_array { ctx: ptr::null_mut() }; outputs.len()];
        let mut message = String::new();
        // SAFETY: the declaration matches native/bridge.h, and the kernel's pointer is alive. All slices outlive the call, which
        // keeps none of them; grid and threadgroup have three numbers. `append` is called with `message` during the call only.
        let succeeded = unsafe {
            mlx_custom_cuda_kernel_start(
                self.raw.as_ptr(),
                stream.as_ptr(),
                grid.as_ptr(),
                threadgroup.as_ptr(),
                launch.fill.as_ref().map_or(ptr::null(), ptr::from_ref),
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
            return Err(refused(self.name, &message));
        }
        // SAFETY: on success each result is a new array that nobody else owns.
        Ok(results.into_iter().map(|array| unsafe { Array::from_ptr(array) }).collect())
    }
}

impl Drop for Kernel {
    fn drop(&mut self) {
        // SAFETY: nobody else owns it, and it isn't used again.
        unsafe { mlx_custom_cuda_kernel_free(self.raw.as_ptr()) }
    }
}

/// Whether work on this stream is done by a GPU.
pub(super) fn is_on_gpu(stream: &Stream) -> bool {
    let mut kind = mlx_sys::mlx_device_type__MLX_CPU;
    // SAFETY: the stream's handle is valid; the device's is new, valid for the question, and freed once.
    unsafe {
        let mut device = mlx_sys::mlx_device_new();
        let known = mlx_sys::mlx_stream_get_device(&raw mut device, stream.as_ptr()) == 0
            && mlx_sys::mlx_device_get_type(&raw mut kind, device) == 0;
        mlx_sys::mlx_device_free(device);
        known && kind == mlx_sys::mlx_device_type__MLX_GPU
    }
}

fn c_string(text: &str) -> Result<CString, Exception> {
    CString::new(text).map_err(|error| Exception::custom(format!("a kernel's source cannot hold a NUL: {error}")))
}

fn to_three(sizes: [usize; 3]) -> Result<[i32; 3], Exception> {
    let [x, y, z] = sizes.map(to_i32);
    Ok([x?, y?, z?])
}

fn to_i32(number: usize) -> Result<i32, Exception> {
    i32::try_from(number).map_err(|_| Exception::custom(format!("{number} is more than MLX can count to")))
}

/// Everything that MLX checks was checked before, so this is for what should not happen.
fn refused(name: &str, message: &str) -> Exception {
    Exception::custom(format!("{name}: MLX refused the CUDA kernel: {message}"))
}
