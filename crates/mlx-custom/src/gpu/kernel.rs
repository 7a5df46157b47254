//! A kernel: its source and the names that the source uses.

use mlx_rs::Array;
use mlx_rs::error::Exception;

use crate::TensorType;
use crate::gpu::{GpuBackend, Launch, Lowered, checks, cuda, emulator, metal};

/// The body of a Metal function, with the names of its inputs and outputs. Usually a `static`.
#[derive(Debug, Clone, Copy)]
pub struct GpuKernel {
    /// A word of letters, digits and `_`.
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
        let failed = |message: String| Exception::custom(format!("{}: {message}", self.name));
        // A scalar has no shape to read, and on Metal no pointer either: it becomes an array of one element.
        if inputs.iter().any(|input| input.ndim() == 0) {
            let one_axis: Vec<Option<Array>> = inputs
                .iter()
                .map(|input| if input.ndim() == 0 { input.reshape(&[1]).map(Some) } else { Ok(None) })
                .collect::<Result<_, _>>()?;
            let inputs: Vec<&Array> =
                inputs.iter().zip(&one_axis).map(|(input, reshaped)| reshaped.as_ref().unwrap_or(input)).collect();
            return self.launch_on(backend, &inputs, launch);
        }
        // Hundreds of starts make a token, and nearly all are of kernels that were started before.
        if backend == GpuBackend::Cuda
            && let Some(known) = cuda::known(self, inputs, launch)
        {
            checks::sizes(self, launch).map_err(failed)?;
            return cuda::start(&known, self, inputs, launch);
        }
        checks::sources(self).map_err(Exception::custom)?;
        checks::kind(self, inputs, launch).and_then(|()| checks::sizes(self, launch)).map_err(failed)?;
        backend.check_available()?;
        if let Some(folder) = cuda::sources_folder() {
            cuda::write_source(folder, self, inputs, launch)?;
        }
        match backend {
            GpuBackend::Metal => metal::launch(self, inputs, launch),
            GpuBackend::Cuda => cuda::launch(self, inputs, launch),
            GpuBackend::Emulator => {
                let lowered = Lowered::new(self).map_err(|error| Exception::custom(error.in_body_of(self)))?;
                emulator::launch(self, &lowered, inputs, launch)
            }
        }
    }

    /// The CUDA source that MLX compiles for this launch, for a check without a GPU and for a look at what a kernel becomes.
    ///
    /// # Errors
    /// What lowering finds (see [`Lowered::new`]), and more threadgroup memory than a GPU has.
    pub fn cuda_source(&self, inputs: &[TensorType], launch: &Launch<'_>) -> Result<String, Exception> {
        cuda::full_source(self, inputs, launch)
    }
}
