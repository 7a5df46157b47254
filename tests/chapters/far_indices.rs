//! Sizes whose product passes 2^32, without the memory for them.
//!
//! A kernel runs twice on the same small arrays: as it is, and as the end of a huge problem. Then its threads are told that they are
//! the last ones, and that the arrays begin so far in front of the small ones that these threads find them there. Both give the
//! same numbers, unless an index wraps: it leads out of its array, and the emulator says so.

use grader::check_rule;
use mlx_custom::gpu::{GpuBackend, GpuKernel, Launch};
use mlx_rs::{Array, Dtype};

/// The end of a huge problem. Shifts are at most 2^35 bytes: the emulator keeps as many addresses free on each side of an array.
#[derive(Debug)]
pub struct Far<'a> {
    /// What is far away, for the report.
    pub what: &'a str,
    /// An index that may pass 2^32, computed in 32 bits and as it should be.
    pub wrong_and_right: [&'a str; 2],
    /// Arrays, and how many elements lie between their huge beginning and the small array.
    pub arrays: &'a [(&'a str, u64)],
    /// The positions by which threads know their work, and how far they are moved.
    pub positions: &'a [(&'a str, [u32; 3])],
    /// Shapes, and other integers that a kernel reads, as they are in the huge problem.
    pub integers: &'a [(&'a str, &'a [u64])],
}

/// Checks that a kernel gives far away what it gives near. Near, it may fail for any reason; if only the far one does, indices wrap.
#[track_caller]
pub fn check_far(far: &Far<'_>, kernel: &GpuKernel, inputs: &[&Array], launch: &Launch<'_>) {
    let run = |kernel: &GpuKernel| -> Result<Vec<Vec<u32>>, String> {
        let outputs = kernel.launch_on(GpuBackend::Emulator, inputs, launch).map_err(|error| error.to_string())?;
        outputs.iter().map(|output| bits_of(output).map_err(|error| error.to_string())).collect()
    };
    let near = run(kernel).unwrap_or_else(|seen| panic!("{}, small: {seen}", kernel.name));
    let seen = run(&far.kernel(kernel));
    let holds = seen.and_then(|seen| {
        if seen == near { Ok(()) } else { Err("the numbers are not those of the small problem".to_owned()) }
    });
    let [wrong, right] = far.wrong_and_right;
    let cause = format!(
        "looks like: an index such as {wrong} is computed in 32 bits and wraps; it may pass 2^32, so it is {right}"
    );
    check_rule(&format!("{}, {}", kernel.name, far.what), holds, &cause);
}

fn bits_of(array: &Array) -> Result<Vec<u32>, mlx_rs::error::Exception> {
    let array = array.as_dtype(Dtype::Float32)?;
    array.eval()?;
    Ok(array.as_slice::<f32>().iter().map(|number| number.to_bits()).collect())
}

impl Far<'_> {
    /// The kernel with its names declared once more, for the huge problem: in the emulator they stand in a block outside of the body.
    /// All on the first line, so that lines keep their numbers.
    fn kernel(&self, kernel: &GpuKernel) -> GpuKernel {
        let mut body = String::new();
        for (name, shift) in self.arrays {
            body += &format!("auto near_{name} = {name}; auto {name} = near_{name} - {shift}l; ");
        }
        for (name, [x, y, z]) in self.positions {
            body += &format!(
                "const uint3 near_{name} = {name}; const uint3 {name} = near_{name} + uint3({x}u, {y}u, {z}u); "
            );
        }
        for (name, integers) in self.integers {
            let integers: Vec<String> = integers.iter().map(u64::to_string).collect();
            body += &format!("const int {name}[] = {{{}}}; ", integers.join(", "));
        }
        body += kernel.body;
        // A kernel's source lives as long as the program.
        GpuKernel { body: Box::leak(body.into_boxed_str()), ..*kernel }
    }
}
