//! Kernels for a GPU, written once, in Metal.
//!
//! A kernel is the body of a Metal function in a `.metal` file of its own ([`GpuKernel`]). It runs
//!
//! - on Apple's GPUs as Metal, through MLX's `metal_kernel`;
//! - on NVIDIA's GPUs through MLX's `cuda_kernel`, behind a prelude that gives Metal's names a meaning in CUDA;
//! - anywhere else in an emulator on the CPU ([`emulator`]), which compiles the same body with the system's C++ compiler and
//!   watches it: accesses out of bounds, races, missed barriers, threadgroup memory read before it is written.
//!
//! # What a body may use
//!
//! Metal as it is, of which the preludes cover: the indices of threads (`thread_position_in_grid.x`, `thread_index_in_simdgroup`, ...);
//! `threadgroup T name[N];` at the body's top level; `threadgroup_barrier` and `simdgroup_barrier`; `simd_sum`, `simd_max`,
//! `simd_min`, `simd_shuffle`, `_xor`, `_down`, `_up`, `simd_broadcast`, `simd_any`, `simd_all`; scalars, vectors of 2 to 4 elements
//! and loads of whole vectors through a cast pointer; `as_type`; the usual functions of `metal::`, `fast::` and `precise::`.
//! SIMD groups have 32 threads. Arithmetic of `half` or `bfloat16_t` with `float` is done in float. [`check_metal`] finds what isn't Metal.
//!
//! Beyond Metal, the same on all backends:
//!
//! - `load_streamed(from)` loads one `uint`, `uint2` or `uint4`, at a multiple of its size, of an input that nobody will read again soon;
//!   on CUDA past the multiprocessor's cache.
//! - `async_copy16(to, from)` copies 16 bytes, aligned to 16, from device to threadgroup memory while the thread goes on; with a third
//!   argument `false` it writes zeros. `async_commit()` closes a group, `async_wait<N>()` waits until at most `N` groups are
//!   under way; then a barrier.
//! - Matrix tiles of 16x16 that a whole SIMD group owns: `TileA<T>` and `TileB<T>` (T is `half`, `bfloat16_t`, or `float`, which is
//!   slow on CUDA) and sums in `TileAcc`, always float. `tile_load(a, p, row_stride)`, `tile_load(b, p, row_stride)` and
//!   `tile_load_transposed(b, p, row_stride)`, where memory holds `[n][k]`, read threadgroup memory; rows must begin at multiples of
//!   16 bytes. `tile_clear(acc)`, `tile_multiply_add(acc, a, b)`. `tile_for_each(acc, f)` calls `f(row, column, value)` for the
//!   values that this lane owns; `tile_for_each_pair` calls `f(row, column, left, right)` for two neighbours.
//! - For softmax: `tile_row_max(acc, rows)` and `tile_row_sum` give the `TILE_ROWS_PER_LANE` rows that this lane owns, also over an
//!   array of tiles side by side; `tile_row_of(i)` says which those are; `tile_for_each_of_row(acc, f)` calls
//!   `f(i, row, column, value)`; `tile_scale_rows(acc, factors)`; `tile_acc_to_a(a, acc)` makes sums the next product's left operand.
//! - Wide tiles, which four SIMD groups multiply together; each has 16 of 64 rows of the sums, T is `half` or `bfloat16_t`. A wide tile
//!   is an array `threadgroup T name[ROWS * (COLUMNS + WIDE_PADDING)]` (several in one array one behind the other), ROWS a multiple of
//!   64 and COLUMNS 64 or 128. How it lies in there the backend decides: `wide_place<ROWS, COLUMNS>(row, column)` is where the 16 bytes from
//!   `column`, a multiple of 8, on begin. Who has written to one calls `wide_publish()`; then a barrier.
//!   `wide_multiply_transposed<ROWS, N, K>(sums, left, own_row, right)` gives `sums [64, N]`, an array of `N / 16` `TileAcc`, the product of 64 rows of
//!   `left [ROWS, K]` and the transpose of `right [N, K]`; `own_row` is the first of this SIMD group's own 16 rows.
//!   `wide_multiply_add<K, N>(sums, left, right)` adds the product of an array of `K / 16` `TileA<T>` with `right [K, N]`. N is 64 or 128.
//!   Products begin behind `wide_begin()`, `wide_commit()` closes a group of them, and they go on by themselves until
//!   `wide_wait<N>()`, which leaves at most `N` groups under way: no register and no tile of theirs may be touched before.
//!   All four SIMD groups, whose indices begin at a multiple of 4, call all of these together.
//! - Operands from registers: of each quarter of 8x8 of a left operand a lane owns the pair in row `tile_pair_row()`, columns
//!   `2 * tile_pair_column()` and the next. `tile_set_pair(a, row_half, column_half, pair)` sets it, two numbers of 16 bits in a
//!   `uint`; `tile_set_pair_transposed(b, n_half, k_half, pair)` does so in the transpose of a right operand. `tile_multiply_add_left`
//!   multiplies the first 8 columns alone, and `tile_value(acc, i)`, `i` below 4, is then all that a lane owns: of row
//!   `tile_row_of(i / 2)`, column `2 * tile_pair_column() + i % 2`.

pub mod backend;
mod checks;
mod cuda;
pub mod emulator;
pub mod kernel;
pub mod launch;
pub mod lowering;
mod memory;
mod metal;
pub mod metal_check;
pub mod tokens;

pub use backend::GpuBackend;
pub use cuda::compile_ahead;
pub use kernel::GpuKernel;
pub use launch::{Launch, TemplateValue};
pub use lowering::{Lowered, ThreadgroupArray};
pub use metal_check::check_metal;

/// Waits until all work of this thread's stream is done and MLX has let go of the buffers that it used. An evaluation may end a
/// moment earlier, while a buffer still has an owner and the next operation can't write into it.
///
/// # Errors
/// What went wrong in work whose result was never asked for.
pub fn synchronize() -> Result<(), mlx_rs::error::Exception> {
    let stream = mlx_rs::thread_local_default_stream().unwrap_or_default();
    // SAFETY: the stream's handle is valid.
    match unsafe { mlx_sys::mlx_synchronize(stream.as_ptr()) } {
        0 => Ok(()),
        _ => Err(mlx_rs::error::Exception::custom("work on a stream failed")),
    }
}
