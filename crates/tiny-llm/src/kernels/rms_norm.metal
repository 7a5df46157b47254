// RMSNorm, a threadgroup for each row; with HAS_RESIDUAL of the sum of two arrays, which is written down as well.
//
// - x and residual `[rows, E]` (residual: x again unless HAS_RESIDUAL), weight `[E]`
// - normalized `[rows, E]`; sum `[rows, E]`, of one element unless HAS_RESIDUAL
// - template: T, the type of x, residual and outputs; HAS_RESIDUAL; SIMD_GROUPS; NUMBERS, how many of a row's numbers each thread
//   takes, THREADS * NUMBERS >= E; EPS_BITS, eps as the bits of a float
// - threadgroups: x the row
constexpr int THREADS = SIMD_GROUPS * 32;
const float eps = as_type<float>(EPS_BITS);
const int size = weight_shape[0];
const long row = threadgroup_position_in_grid.x;
const int thread_index = thread_index_in_threadgroup;
const int own_simd = simdgroup_index_in_threadgroup;
const int lane = thread_index_in_simdgroup;

threadgroup float squares_of_group[SIMD_GROUPS];
if (!HAS_RESIDUAL && row == 0 && thread_index == 0) {
    sum[0] = T(0.0f); // nobody reads it, but outputs are written
}

// [task 2.5.5] rms_norm
todo!("week 2 day 5 task 5: rms_norm - see book/src/week2/day5.md");
// [end]
