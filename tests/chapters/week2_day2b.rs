//! Day 2.2b: activations of 16 bits, kernels that multiply them by quantized matrices, and the model on them.

#[allow(dead_code)] // day 2.1 uses the rest
mod cached_model;
mod kernel_checks;
#[allow(dead_code)] // day 2.2a uses the rest
mod quantized_matrices;
#[allow(dead_code)] // day 2.4 uses the rest
mod quantized_models;
#[path = "week2_day2b/task_1_activations.rs"]
mod task_1_activations;
#[path = "week2_day2b/task_3_threads_and_the_operation.rs"]
mod task_3_threads_and_the_operation;
#[path = "week2_day2b/task_5_the_model.rs"]
mod task_5_the_model;
mod tiny_models;

use grader::{Case, Rng, strided};
use kernel_checks::{Shapes, check_cases, largest_integers, not_finite, spoiled_groups, sweep, vector_kernels};
use mlx_rs::{Array, Dtype};
use quantized_matrices::{Format, Matrix, multiply, random_activations, rounded_to};
use rstest::rstest;
use std::fmt::Display;
use tiny_llm::quantized::kernel::Portable;

const DAY: &str = "week2_day2b";
const FLOATS: [Dtype; 3] = [Dtype::Float32, Dtype::Float16, Dtype::Bfloat16];

// ------------------------------------------------------------------------ task 2: the portable kernel

// Those with groups of half a chunk come last.
const FEW: [&str; 7] = [
    "4_bits_groups_of_64",
    "4_bits_groups_of_128",
    "8_bits_groups_of_32",
    "8_bits_groups_of_64",
    "8_bits_groups_of_128",
    "4_bits_groups_of_32",
    "4_bits_half_chunk",
];
const TILES: [&str; 8] = [
    "tile_4_bits_groups_of_64",
    "tile_4_bits_groups_of_128",
    "tile_8_bits_groups_of_32",
    "tile_8_bits_groups_of_64",
    "tile_8_bits_groups_of_128",
    "tile_4_bits_two_panels",
    "tile_4_bits_groups_of_32",
    "tile_4_bits_half_chunk",
];

#[test]
fn task_2_portable() {
    check_cases(&Portable, &[&FEW[..], &TILES[..]].concat());
}

#[rstest]
fn task_2_portable_sizes(#[values(Shapes::WholeChunks, Shapes::HalfChunks, Shapes::HalfChunkAtTheEnd)] shapes: Shapes) {
    sweep(&Portable, shapes, &[0..1, 2..4, 1..6]);
}

#[test]
fn task_2_portable_with_the_largest_integers() {
    largest_integers(&Portable, 2);
}

#[test]
fn task_2_portable_keeps_what_is_not_finite_with_its_token() {
    not_finite(&Portable, 2);
    spoiled_groups(&Portable, 2);
}

/// How much the rounding of activations costs in a product, beside that of 8 bits.
#[test]
fn task_2_sixteen_bits_do_not_show_in_a_product() {
    let mut rng = Rng::new(7);
    let matrix = Matrix::random(&mut rng, [64, 1024], Format { group_size: 32, bits: 4 }, Dtype::Float16);
    let x = random_activations(&mut rng, 1, 1024);
    let exact = matrix.product(&x);
    let size = exact.iter().map(|exact| exact.value.powi(2)).sum::<f64>().sqrt();
    let error_with = |largest_integer: f64| {
        let got = multiply(&Portable, &matrix, &rounded_to(largest_integer, &matrix, &x), 0..1, 0..64);
        let squares = got.iter().zip(&exact).map(|(got, exact)| (f64::from(*got) - exact.value).powi(2));
        squares.sum::<f64>().sqrt() / size
    };
    let (sixteen, eight) = (error_with(32767.0), error_with(127.0));
    assert!(sixteen < 2e-5, "16-bit activations are off by {sixteen:e} of the product");
    assert!((100.0..500.0).contains(&(eight / sixteen)), "8 bits: {eight:e}, 16 bits: {sixteen:e}");
}

// -------------------------------------------------------------- tasks 4 and 5: the kernels of this processor

#[test]
fn task_4_few_tokens() {
    for kernel in vector_kernels() {
        check_cases(kernel, &FEW);
    }
}

#[rstest]
fn task_4_few_tokens_sizes(
    #[values(Shapes::WholeChunks, Shapes::HalfChunks, Shapes::HalfChunkAtTheEnd)] shapes: Shapes,
) {
    for kernel in vector_kernels() {
        sweep(kernel, shapes, &[0..1, 3..5, 1..4]);
    }
}

#[test]
fn task_4_few_tokens_with_the_largest_integers() {
    for kernel in vector_kernels() {
        largest_integers(kernel, 2);
    }
}

#[test]
fn task_4_few_tokens_keep_what_is_not_finite() {
    for kernel in vector_kernels() {
        not_finite(kernel, 3);
        spoiled_groups(kernel, 3);
    }
}

#[test]
fn task_5_tile() {
    for kernel in vector_kernels() {
        check_cases(kernel, &TILES);
    }
}

#[rstest]
fn task_5_tile_sizes(#[values(Shapes::WholeChunks, Shapes::HalfChunks, Shapes::HalfChunkAtTheEnd)] shapes: Shapes) {
    for kernel in vector_kernels() {
        sweep(kernel, shapes, &[0..4, 1..6, 3..9, 2..9, 1..14]);
    }
}

#[test]
fn task_5_tile_with_the_largest_integers() {
    for kernel in vector_kernels() {
        largest_integers(kernel, 7);
    }
}

#[test]
fn task_5_tile_keeps_what_is_not_finite() {
    for kernel in vector_kernels() {
        not_finite(kernel, 6);
        spoiled_groups(kernel, 6);
    }
}

// ------------------------------------------------------------------------------------------------- helpers

fn bits(case: &Case) -> usize {
    case.i32("bits") as usize
}

fn group_size(case: &Case) -> usize {
    case.i32("group_size") as usize
}

/// An array, or the same values in another memory order.
fn in_order(array: Array, other_memory_order: bool) -> Array {
    if other_memory_order { must(strided(&array)) } else { array }
}

#[track_caller]
fn must<T, E: Display>(result: Result<T, E>) -> T {
    result.unwrap_or_else(|error| panic!("{error}"))
}
