//! Where a thread is: in the grid, in its threadgroup, in its SIMD group.

use mlx_custom::TensorType;
use mlx_custom::gpu::{GpuKernel, Launch};
use mlx_rs::{Array, Dtype};

use crate::support::on_every_backend;

#[test]
fn every_name_in_three_dimensions() {
    let kernel = GpuKernel {
        name: "indices",
        inputs: &["unused"],
        outputs: &["out"],
        header: "",
        body: include_str!("kernels/indices.metal"),
        strided: false,
    };
    for (grid, threadgroup) in [([8, 6, 4], [4, 3, 2]), ([16, 8, 2], [16, 4, 1]), ([64, 1, 1], [64, 1, 1])] {
        let n_threads: usize = grid.iter().product();
        let outputs = [TensorType::new([n_threads, 16], Dtype::Uint32)];
        let launch = Launch { template: &[], outputs: &outputs, grid, threadgroup, fill: None };
        let digits = |sizes: [usize; 3]| sizes[0] * 10000 + sizes[1] * 100 + sizes[2];
        let groups = [0, 1, 2].map(|axis| grid[axis] / threadgroup[axis]);
        let in_group: usize = threadgroup.iter().product();
        let expected: Vec<u32> = (0..n_threads)
            .flat_map(|thread| {
                let at = [thread % grid[0], thread / grid[0] % grid[1], thread / grid[0] / grid[1]];
                let group = [0, 1, 2].map(|axis| at[axis] / threadgroup[axis]);
                let within = [0, 1, 2].map(|axis| at[axis] % threadgroup[axis]);
                let index = within[0] + threadgroup[0] * (within[1] + threadgroup[1] * within[2]);
                let mut row = Vec::from(at);
                row.push(digits(grid));
                row.extend(group);
                row.push(digits(groups));
                row.extend(within);
                row.push(digits(threadgroup));
                row.extend([index, index % 32 + 3200, index / 32, in_group.div_ceil(32)]);
                row
            })
            .map(|number| number as u32)
            .collect();
        let unused = Array::from_slice(&[0_u32; 8], &[8]);
        on_every_backend(&kernel, &[&unused], &launch, |backend, out| {
            let got = out[0].as_slice::<u32>();
            for (thread, (got, expected)) in got.chunks(16).zip(expected.chunks(16)).enumerate() {
                assert_eq!(got, expected, "{backend:?}, grid {grid:?}, thread {thread}");
            }
        });
    }
}
