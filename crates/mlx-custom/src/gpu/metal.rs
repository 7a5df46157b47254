//! Apple's GPUs, through MLX's `metal_kernel`. Written from MLX's documentation; we have not run it.

use mlx_rs::Array;
use mlx_rs::error::Exception;
use mlx_rs::fast::{MetalKernel, MetalKernelApplyOptions, MetalKernelOptions, MetalKernelOutput, TemplateArg};

use crate::gpu::memory::{ALIGNMENT, threadgroup_bytes};
use crate::gpu::{GpuKernel, Launch, Lowered, TemplateValue};

/// What Metal lacks of the dialect: tiles, asynchronous copies, names of vectors.
const PRELUDE: &str = concat!(
    include_str!("prelude/metal/types.metal"),
    include_str!("prelude/metal/tiles.metal"),
    include_str!("prelude/metal/wide.metal"),
);
/// All the threadgroup memory that Apple's GPUs have for a threadgroup.
const MAX_BYTES: usize = 32 << 10;

/// Adds the kernel to MLX's graph.
///
/// # Errors
/// A declaration of threadgroup memory that can't be read, more of it than there is; a stream of the CPU.
pub(crate) fn launch(kernel: &GpuKernel, inputs: &[&Array], launch: &Launch<'_>) -> Result<Vec<Array>, Exception> {
    let lowered = Lowered::new(kernel).map_err(|error| Exception::custom(error.in_body_of(kernel)))?;
    if let Some(bytes) = threadgroup_bytes(&lowered, launch, ALIGNMENT).filter(|&bytes| bytes > MAX_BYTES) {
        let name = kernel.name;
        return Err(Exception::custom(format!(
            "{name}: declares {bytes} bytes of threadgroup memory; {MAX_BYTES} are the most on Metal"
        )));
    }
    let options = MetalKernelOptions {
        header: format!("{PRELUDE}\n{}", kernel.header),
        ensure_row_contiguous: !kernel.strided,
        atomic_outputs: false,
    };
    let metal = MetalKernel::new(kernel.name, kernel.inputs, kernel.outputs, kernel.body, options)?;
    let length = |length: usize| {
        i32::try_from(length).map_err(|_| Exception::custom(format!("{length} is more than MLX can count to")))
    };
    let outputs = launch.outputs.iter().map(|output| {
        let shape = output.shape.iter().map(|&len| length(len)).collect::<Result<Vec<i32>, _>>()?;
        Ok(MetalKernelOutput { shape, dtype: output.dtype })
    });
    let outputs = outputs.collect::<Result<Vec<_>, Exception>>()?;
    let template = launch.template.iter().map(|&(name, value)| {
        let value = match value {
            TemplateValue::Int(value) => TemplateArg::Int(value),
            TemplateValue::Bool(value) => TemplateArg::Bool(value),
            TemplateValue::Dtype(dtype) => TemplateArg::Dtype(dtype),
        };
        (name.to_owned(), value)
    });
    let options =
        MetalKernelApplyOptions { template_args: template.collect(), init_value: launch.fill, verbose: false };
    let ([x, y, z], [tx, ty, tz]) = (launch.grid.map(length), launch.threadgroup.map(length));
    // SAFETY: what a kernel does to memory can't be checked on a GPU. Every kernel of this workspace runs its tests in the
    // emulator, which watches each access, and that is the promise made here.
    unsafe { metal.apply(inputs, &outputs, (x?, y?, z?), (tx?, ty?, tz?), options) }
}
