//! Multiplication by a 4-bit matrix, day 2.2b: the operation, and the kernels by themselves.
//!
//! The sizes are those of SmolLM2-135M and Qwen2.5-0.5B, `[O, I]` in groups of 32, and an output head. Few tokens count
//! bytes of weights, which are read from memory: each product takes the next of so many copies that a cache doesn't hold
//! them. Many tokens count multiplications with addition.
//!
//! `cargo bench --package tiny-llm-cli --bench quantized`, and a part of a name for some of them, such as `kernels/1 token`

use std::cell::Cell;
use std::hint::black_box;
use std::thread::available_parallelism;

use criterion::{
    BenchmarkGroup, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main, measurement::WallTime,
};
use mlx_custom::set_num_threads;
use mlx_rs::{Array, Device, Dtype, random};
#[cfg(all(feature = "student", not(feature = "reference")))]
use tiny_llm as engine;
#[cfg(feature = "reference")]
use tiny_llm_reference as engine;

use engine::quantized::kernel::{Kernel, available_kernels};
use engine::quantized::matrix::ConstantMatrix;
use engine::quantized::tiles::{for_each_tile, quantize_tokens};
use engine::quantized::{QuantizedMatrix, quantized_matmul};

const SIZES: [[i32; 2]; 4] = [[576, 576], [1536, 576], [4864, 896], [49152, 576]];
const GROUP_SIZE: i32 = 32;
const BITS: i32 = 4;
/// Copies of a matrix have so many bytes together, or more.
const BEYOND_CACHES: usize = 1 << 28;

/// A benchmark has nobody to report to.
fn must<T, E: std::fmt::Display>(result: Result<T, E>) -> T {
    result.unwrap_or_else(|error| panic!("{error}"))
}

/// Equal matrices at different places of the memory, and whose turn it is.
struct Copies {
    matrices: Vec<QuantizedMatrix>,
    next: Cell<usize>,
}

impl Copies {
    fn new([outputs, inputs]: [i32; 2], n_bytes: usize) -> Self {
        let groups = [outputs, inputs / GROUP_SIZE];
        let words: Vec<u32> =
            (0..outputs * inputs * BITS / 32).map(|i| (i as u32).wrapping_mul(2_654_435_769)).collect();
        let numbers = |low: f32, high: f32| {
            must(random::uniform::<_, f32>(low, high, &groups, None).and_then(|array| array.as_dtype(Dtype::Float16)))
        };
        let matrix = || {
            let packed = Array::from_slice(&words, &[outputs, inputs * BITS / 32]);
            let (scales, biases) = (numbers(0.001, 0.01), numbers(-0.08, -0.01));
            must(QuantizedMatrix::new(packed, scales, biases, GROUP_SIZE as usize, BITS as usize))
        };
        let n_copies = n_bytes.div_ceil(bytes([outputs, inputs]) as usize).max(1);
        Self { matrices: (0..n_copies).map(|_| matrix()).collect(), next: Cell::new(0) }
    }

    fn next(&self) -> &QuantizedMatrix {
        self.next.set((self.next.get() + 1) % self.matrices.len());
        &self.matrices[self.next.get()]
    }
}

/// Words, scales and biases.
fn bytes([outputs, inputs]: [i32; 2]) -> u64 {
    (outputs * inputs * BITS / 8 + 2 * 2 * outputs * inputs / GROUP_SIZE) as u64
}

fn multiply_adds(tokens: i32, [outputs, inputs]: [i32; 2]) -> u64 {
    tokens as u64 * outputs as u64 * inputs as u64
}

fn activations(tokens: i32, inputs: i32) -> Array {
    let x = must(random::normal::<f32>(&[tokens, inputs], None, None, None));
    must(x.eval());
    x
}

/// One, and all that the machine has.
fn thread_counts() -> Vec<usize> {
    let all = available_parallelism().map_or(1, usize::from);
    if all == 1 { vec![1] } else { vec![1, all] }
}

/// The whole operation, as the engine calls it: from one token to a prompt.
fn operation(criterion: &mut Criterion) {
    for tokens in [1, 2, 4, 8, 32, 128] {
        let mut group = criterion.benchmark_group(format!("operation/{tokens} tokens"));
        for size @ [outputs, inputs] in SIZES {
            let copies = Copies::new(size, BEYOND_CACHES);
            let x = activations(tokens, inputs);
            group.throughput(throughput(tokens, size)).sample_size(20);
            for n_threads in thread_counts() {
                set_num_threads(n_threads);
                group.bench_function(
                    BenchmarkId::new(format!("{outputs}x{inputs}"), format!("{n_threads} threads")),
                    |b| {
                        b.iter(|| must(must(quantized_matmul(&x, copies.next(), None)).eval()));
                    },
                );
            }
        }
        group.finish();
    }
}

/// Each kernel that this processor can run, without the operation around it.
fn kernels(criterion: &mut Criterion) {
    for tokens in [1, 128] {
        let mut group = criterion.benchmark_group(format!("kernels/{tokens} tokens"));
        for size @ [outputs, inputs] in SIZES {
            let copies = Copies::new(size, if tokens == 1 { BEYOND_CACHES } else { 0 });
            let constants: Vec<ConstantMatrix> = copies.matrices.iter().map(|matrix| must(matrix.constant())).collect();
            let x = activations(tokens, inputs);
            group.throughput(throughput(tokens, size)).sample_size(20);
            for n_threads in thread_counts() {
                set_num_threads(n_threads);
                for kernel in available_kernels() {
                    let id = BenchmarkId::new(kernel.name(), format!("{outputs}x{inputs}, {n_threads} threads"));
                    time_kernel(&mut group, id, *kernel, &constants, x.as_slice());
                }
            }
        }
        group.finish();
    }
}

fn time_kernel(
    group: &mut BenchmarkGroup<'_, WallTime>,
    id: BenchmarkId,
    kernel: &dyn Kernel,
    constants: &[ConstantMatrix],
    x: &[f32],
) {
    let inputs = constants[0].inputs();
    let tokens = x.len() / inputs;
    let view = must(constants[0].view());
    let rounded =
        quantize_tokens(kernel, &view, tokens, |token, row| row.copy_from_slice(&x[token * inputs..][..inputs]));
    let mut next = constants.iter().cycle();
    group.bench_function(id, |b| {
        b.iter(|| {
            let Some(view) = next.next().map(|constant| must(constant.view())) else { return };
            for_each_tile(tokens, view.outputs, |tokens, rows, tile| {
                tile.resize(tokens.len() * rows.len(), 0.0);
                kernel.multiply(&view, &rounded, tokens, rows, black_box(tile));
            });
        });
    });
}

/// Fewer tokens than these are limited by memory on most machines.
fn throughput(tokens: i32, size: [i32; 2]) -> Throughput {
    if tokens < 8 { Throughput::BytesDecimal(bytes(size)) } else { Throughput::Elements(multiply_adds(tokens, size)) }
}

fn on_the_cpu(criterion: &mut Criterion) {
    Device::set_default(&Device::cpu());
    operation(criterion);
    kernels(criterion);
}

criterion_group!(benches, on_the_cpu);
criterion_main!(benches);
