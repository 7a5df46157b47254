//! A kernel: its source and the names that the source uses.

use mlx_rs::Array;
use mlx_rs::error::Exception;

use crate::gpu::{GpuBackend, Launch};

/// The body of a Metal function, with the names of its inputs and outputs. Usually a `static`.
#[derive(Debug, Clone, Copy)]
pub struct GpuKernel {
    pub name: &'static str,
    /// Each is a `const device T* name` in the body; `name_shape`, `name_strides` and `name_ndim` are there if the body uses them.
    pub inputs: &'static [&'static str],
    /// Each is a `device T* name` in the body.
    pub outputs: &'static [&'static str],
    /// Functions that the body calls: Metal source that stands before it. Several files may be joined with `concat!`.
    pub header: &'static str,
    /// Usually `include_str!("kernels/NAME.metal")`.
    pub body: &'static str,
    /// The body reads inputs through `name_strides`; otherwise they are made row-major first.
    pub strided: bool,
}

impl GpuKernel {
    /// Adds the kernel to MLX's graph, for the backend that [`GpuBackend::current`] names.
    ///
    /// # Errors
    /// A grid that isn't a multiple of the threadgroup, another number of inputs or outputs than declared, a body
    /// that is not written yet (`todo!("...")` in the source). What only shows when it runs (a body that doesn't compile, what the
    /// emulator finds) is an error of `eval`.
    pub fn launch(&self, inputs: &[&Array], launch: &Launch<'_>) -> Result<Vec<Array>, Exception> {
        self.launch_on(GpuBackend::current()?, inputs, launch)
    }

    /// [`launch`](Self::launch) on a backend of the caller's choice.
    ///
    /// # Errors
    /// As `launch`, and when this machine lacks the backend.
    pub fn launch_on(
        &self,
        backend: GpuBackend,
        inputs: &[&Array],
        launch: &Launch<'_>,
    ) -> Result<Vec<Array>, Exception> {
        let _ = (inputs, launch);
        Err(Exception::custom(format!("{}: {backend:?} is still to be written", self.name)))
    }
}
