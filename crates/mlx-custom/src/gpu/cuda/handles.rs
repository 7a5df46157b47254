//! Owners of mlx-c's handles for CUDA kernels.

use std::ffi::{CString, c_int};

use mlx_rs::error::Exception;
use mlx_rs::{Array, Stream};
use mlx_sys::{mlx_array, mlx_fast_cuda_kernel, mlx_fast_cuda_kernel_config, mlx_vector_array, mlx_vector_string};

use crate::gpu::cuda::Source;
use crate::gpu::{GpuKernel, Launch};

/// A kernel as MLX knows it: a name, a source, what it takes and gives.
pub(super) struct Kernel {
    raw: mlx_fast_cuda_kernel,
    name: &'static str,
}

// SAFETY: the handle owns a C++ closure over strings, which only `mlx_fast_cuda_kernel_apply` reads and nothing changes
// before it is freed, by the last owner.
unsafe impl Send for Kernel {}
// SAFETY: as above; reading it from several threads at once is no race.
unsafe impl Sync for Kernel {}

impl Kernel {
    pub(super) fn new(name: &str, kernel: &GpuKernel, source: &Source) -> Result<Self, Exception> {
        let (inputs, outputs) = (Strings::new(kernel.inputs)?, Strings::new(kernel.outputs)?);
        let (name, body, header) = (c_string(name)?, c_string(&source.body)?, c_string(&source.header)?);
        // SAFETY: all texts end with NUL and live during the call, which copies them, as it copies the lists.
        let raw = unsafe {
            mlx_sys::mlx_fast_cuda_kernel_new(
                name.as_ptr(),
                inputs.0,
                outputs.0,
                body.as_ptr(),
                header.as_ptr(),
                !kernel.strided,
                to_int(source.dynamic_bytes)?,
            )
        };
        if raw.ctx.is_null() { Err(refused(kernel.name)) } else { Ok(Self { raw, name: kernel.name }) }
    }

    /// Adds a start of the kernel to the graph.
    pub(super) fn apply(&self, inputs: &[&Array], config: &Config, stream: &Stream) -> Result<Vec<Array>, Exception> {
        let inputs: Vec<mlx_array> = inputs.iter().map(|array| array.as_ptr()).collect();
        // SAFETY: the handles are valid; the vector takes references of its own.
        let inputs = Arrays(unsafe { mlx_sys::mlx_vector_array_new_data(inputs.as_ptr(), inputs.len()) });
        // SAFETY: an empty vector, to be filled.
        let mut outputs = Arrays(unsafe { mlx_sys::mlx_vector_array_new() });
        // SAFETY: all five handles are valid during the call.
        let status = unsafe {
            mlx_sys::mlx_fast_cuda_kernel_apply(&raw mut outputs.0, self.raw, inputs.0, config.0, stream.as_ptr())
        };
        check(status, self.name)?;
        // SAFETY: the handle is valid.
        let n_outputs = unsafe { mlx_sys::mlx_vector_array_size(outputs.0) };
        (0..n_outputs).map(|number| outputs.get(number, self.name)).collect()
    }
}

impl Drop for Kernel {
    fn drop(&mut self) {
        // SAFETY: nobody else owns the handle, and it isn't used again.
        unsafe { mlx_sys::mlx_fast_cuda_kernel_free(self.raw) }
    }
}

/// What differs from start to start: the grid, the outputs' shapes.
pub(super) struct Config(mlx_fast_cuda_kernel_config);

impl Config {
    pub(super) fn new(launch: &Launch<'_>) -> Result<Self, Exception> {
        // SAFETY: takes nothing; the handle is owned by the result at once.
        let config = Self(unsafe { mlx_sys::mlx_fast_cuda_kernel_config_new() });
        if config.0.ctx.is_null() {
            return Err(refused("cuda_kernel"));
        }
        for output in launch.outputs {
            let shape = output.shape.iter().map(|&len| to_int(len)).collect::<Result<Vec<c_int>, _>>()?;
            // SAFETY: the handle is valid, the shape lives during the call, which copies it.
            let status = unsafe {
                mlx_sys::mlx_fast_cuda_kernel_config_add_output_arg(
                    config.0,
                    shape.as_ptr(),
                    shape.len(),
                    output.dtype.into(),
                )
            };
            check(status, "output")?;
        }
        let [grid, threadgroup] = [launch.grid, launch.threadgroup].map(|sizes| sizes.map(to_int));
        let ([x, y, z], [tx, ty, tz]) = (grid, threadgroup);
        // SAFETY: the handle is valid.
        check(unsafe { mlx_sys::mlx_fast_cuda_kernel_config_set_grid(config.0, x?, y?, z?) }, "grid")?;
        // SAFETY: the handle is valid.
        let status = unsafe { mlx_sys::mlx_fast_cuda_kernel_config_set_thread_group(config.0, tx?, ty?, tz?) };
        check(status, "threadgroup")?;
        if let Some(value) = launch.fill {
            // SAFETY: the handle is valid.
            check(unsafe { mlx_sys::mlx_fast_cuda_kernel_config_set_init_value(config.0, value) }, "fill")?;
        }
        Ok(config)
    }
}

impl Drop for Config {
    fn drop(&mut self) {
        // SAFETY: nobody else owns the handle.
        unsafe { mlx_sys::mlx_fast_cuda_kernel_config_free(self.0) }
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

struct Arrays(mlx_vector_array);

impl Arrays {
    fn get(&self, number: usize, name: &str) -> Result<Array, Exception> {
        // SAFETY: an empty array, to be filled.
        let mut array = unsafe { mlx_sys::mlx_array_new() };
        // SAFETY: both handles are valid; MLX checks the number.
        let status = unsafe { mlx_sys::mlx_vector_array_get(&raw mut array, self.0, number) };
        // SAFETY: the handle is new and owned by the result, which frees it.
        let array = unsafe { Array::from_ptr(array) };
        check(status, name)?;
        Ok(array)
    }
}

impl Drop for Arrays {
    fn drop(&mut self) {
        // SAFETY: nobody else owns the handle.
        unsafe { mlx_sys::mlx_vector_array_free(self.0) };
    }
}

struct Strings(mlx_vector_string);

impl Strings {
    fn new(texts: &[&str]) -> Result<Self, Exception> {
        // SAFETY: takes nothing; the handle is owned by the result at once.
        let strings = Self(unsafe { mlx_sys::mlx_vector_string_new() });
        for text in texts {
            let text = c_string(text)?;
            // SAFETY: the handle is valid; the text ends with NUL and is copied.
            check(unsafe { mlx_sys::mlx_vector_string_append_value(strings.0, text.as_ptr()) }, "name")?;
        }
        Ok(strings)
    }
}

impl Drop for Strings {
    fn drop(&mut self) {
        // SAFETY: nobody else owns the handle.
        unsafe { mlx_sys::mlx_vector_string_free(self.0) };
    }
}

fn c_string(text: &str) -> Result<CString, Exception> {
    CString::new(text).map_err(|error| Exception::custom(format!("a kernel's source cannot hold a NUL: {error}")))
}

fn to_int(number: usize) -> Result<c_int, Exception> {
    c_int::try_from(number).map_err(|_| Exception::custom(format!("{number} is more than MLX can count to")))
}

/// What MLX says is kept where only mlx-rs can read it. Everything that MLX checks here was checked before, so this is the
/// message for what should not happen.
fn check(status: c_int, what: &str) -> Result<(), Exception> {
    if status == 0 { Ok(()) } else { Err(refused(what)) }
}

fn refused(what: &str) -> Exception {
    Exception::custom(format!("MLX refused the CUDA kernel ({what}); is this MLX built with CUDA?"))
}
