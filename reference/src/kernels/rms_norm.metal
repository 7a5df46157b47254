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
// All loads come before all stores: they are under way together, and device memory is waited for once. The compiler could not do
// that itself, for all it knows a store may change what the next load reads. Numbers stay in registers.
float numbers[NUMBERS], weights[NUMBERS];
for (int n = 0; n < NUMBERS; ++n) {
    const int i = n * THREADS + thread_index;
    numbers[n] = i < size ? float(x[row * size + i]) : 0.0f;
    weights[n] = i < size ? float(weight[i]) : 0.0f;
}
if (HAS_RESIDUAL) {
    for (int n = 0; n < NUMBERS; ++n) {
        const int i = n * THREADS + thread_index;
        // Rounded as it is stored: the residual stream is what the next layer reads.
        numbers[n] = i < size ? float(T(numbers[n] + float(residual[row * size + i]))) : 0.0f;
    }
}
float squares = 0.0f;
for (int n = 0; n < NUMBERS; ++n) {
    squares += numbers[n] * numbers[n];
}
squares = simd_sum(squares);
if (lane == 0) {
    squares_of_group[own_simd] = squares;
}
threadgroup_barrier(mem_flags::mem_threadgroup);
float all_squares = 0.0f;
for (int g = 0; g < SIMD_GROUPS; ++g) {
    all_squares += squares_of_group[g];
}
const float inverse_rms = precise::rsqrt(all_squares / float(size) + eps);
for (int n = 0; n < NUMBERS; ++n) {
    const int i = n * THREADS + thread_index;
    if (i < size) {
        if (HAS_RESIDUAL) {
            sum[row * size + i] = T(numbers[n]);
        }
        normalized[row * size + i] = T(numbers[n] * inverse_rms * weights[n]);
    }
}
// [end]
