//! Products of 16x16 tiles.

use mlx_custom::gpu::GpuKernel;
use mlx_rs::Dtype;

use crate::support::{Start, counting, kernel};

const BODY: &str = "
    threadgroup T a[16 * 24];
    threadgroup T b[16 * 24];
    uint lane = thread_index_in_simdgroup;
    for (uint i = lane; i < 256; i += 32) {
      a[i / 16 * 24 + i % 16] = T((i * 7 + 3) % 11) - T(5);
      b[i / 16 * 24 + i % 16] = T((i * 5 + 1) % 13) - T(6);
    }
    simdgroup_barrier(mem_flags::mem_threadgroup);
    TileA<T> left;
    TileB<T> right;
    TileAcc sums;
    tile_clear(sums);
    tile_load(left, a, 24);
    LOAD(right, b, 24);
    tile_multiply_add(sums, left, right);
    tile_multiply_add(sums, left, right);
    float rows[TILE_ROWS_PER_LANE], highest[TILE_ROWS_PER_LANE];
    tile_row_sum(sums, rows);
    tile_row_max(sums, highest);
    for (ushort i = 0; i < TILE_ROWS_PER_LANE; i++) {
      ushort row = tile_row_of(i);
      tile_sums[row] = rows[i];
      tile_highest[row] = highest[i];
    }
    float halves[TILE_ROWS_PER_LANE];
    for (ushort i = 0; i < TILE_ROWS_PER_LANE; i++) halves[i] = 0.5f;
    tile_scale_rows(sums, halves);
    tile_for_each(sums, [&](ushort row, ushort column, thread float& value) { out[row * 16 + column] = value; });";

/// `(a * 2 b)` in plain Rust, with `b` as it lies in memory or transposed.
fn expected(transposed: bool) -> Vec<f32> {
    let a = |row: usize, column: usize| ((row * 16 + column) * 7 + 3) as i32 % 11 - 5;
    let b = |row: usize, column: usize| ((row * 16 + column) * 5 + 1) as i32 % 13 - 6;
    let mut product = Vec::new();
    for row in 0..16 {
        for column in 0..16 {
            let terms = (0..16).map(|k| a(row, k) * if transposed { b(column, k) } else { b(k, column) });
            product.push(terms.sum::<i32>() as f32);
        }
    }
    product
}

#[test]
fn products_for_all_types_and_both_layouts() {
    for (header, transposed) in [
        ("using T = half;\n#define LOAD tile_load", false),
        ("using T = bfloat16_t;\n#define LOAD tile_load_transposed", true),
        ("using T = float;\n#define LOAD tile_load", false),
    ] {
        // Rows belong to four lanes each, and all would write the same sum: so they write nowhere here.
        let body =
            BODY.replace("tile_sums[row] = rows[i];", "(void)row;").replace("tile_highest[row] = highest[i];", "");
        let kernel = GpuKernel { header, ..kernel("product", String::leak(body)) };
        let out = Start::new(32, 32, 256).of(Dtype::Float32).run(&kernel, &[&counting(1)]).unwrap();
        assert_eq!(out.as_slice::<f32>(), expected(transposed), "{header}");
    }
}

#[test]
fn reductions_over_rows() {
    let body = BODY
        .replace("tile_sums[row] = rows[i];", "if (lane % 4 == 0) out[256 + row] = rows[i];")
        .replace("tile_highest[row] = highest[i];", "if (lane % 4 == 0) out[272 + row] = highest[i];");
    let kernel =
        GpuKernel { header: "using T = half;\n#define LOAD tile_load", ..kernel("row_reductions", String::leak(body)) };
    let out = Start::new(32, 32, 288).run(&kernel, &[&counting(1)]).unwrap();
    let out = out.as_slice::<f32>();
    let product = expected(false);
    for row in 0..16 {
        let numbers = product[row * 16..(row + 1) * 16].iter().map(|number| 2.0 * number);
        assert_eq!(out[256 + row], numbers.clone().sum::<f32>(), "row {row}");
        assert_eq!(out[272 + row], numbers.fold(f32::NEG_INFINITY, f32::max), "row {row}");
    }
}

#[test]
fn sums_as_the_next_left_operand() {
    let body = "
    threadgroup half b[16 * 16];
    uint lane = thread_index_in_simdgroup;
    for (uint i = lane; i < 256; i += 32) b[i] = half(i / 16 == i % 16 ? 2.0f : 0.0f);
    simdgroup_barrier(mem_flags::mem_threadgroup);
    TileAcc sums, next;
    tile_clear(sums);
    tile_clear(next);
    tile_for_each(sums, [&](ushort row, ushort column, thread float& value) { value = row * 16 + column + 0.0625f; });
    TileA<half> left;
    TileB<half> right;
    tile_acc_to_a(left, sums);
    tile_load(right, b, 16);
    tile_multiply_add(next, left, right);
    tile_for_each(next, [&](ushort row, ushort column, thread float& value) { out[row * 16 + column] = value; });";
    let out = Start::new(32, 32, 256).run(&kernel("chained", body), &[&counting(1)]).unwrap();
    for (i, &value) in out.as_slice::<f32>().iter().enumerate() {
        let rounded = half::f16::from_f32(i as f32 + 0.0625).to_f32();
        assert_eq!(value, 2.0 * rounded, "element {i}");
    }
}
