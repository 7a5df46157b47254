// Puts the splits of `attention_decode` together: a threadgroup for each query.
//
// - partial `[B, H_q, L, splits, D]`, statistics `[B, H_q, L, splits, 2]`, both float: accumulators that are not divided
//   yet; the maximum, in units of log 2, and the sum of each split
// - out `[B, H_q, L, D]`, of type O
// - template: O, D, SIMD_GROUPS of a threadgroup
// - threadgroups: x the query, of B * H_q * L
constexpr int PER_LANE = (D + 31) / 32;
const int splits = statistics_shape[3];
const long row = threadgroup_position_in_grid.x;
const int own_simd = simdgroup_index_in_threadgroup;
const int lane = thread_index_in_simdgroup;
const device float* accumulators = partial + row * splits * D;
const device float* max_and_sum = statistics + row * splits * 2;

threadgroup float group_accumulator[SIMD_GROUPS * D];

// [task 2.5.3] attention_decode_merge
// Every SIMD group looks for the maximum itself: that costs less than telling it to the others.
float max_score = LOWEST;
for (int split = lane; split < splits; split += 32) {
    max_score = max(max_score, max_and_sum[2 * split]);
}
max_score = simd_max(max_score);
float sum = 0.0f;
for (int split = lane; split < splits; split += 32) {
    sum += max_and_sum[2 * split + 1] * exp2(max_and_sum[2 * split] - max_score);
}
sum = simd_sum(sum);

// The SIMD groups take turns with the accumulators.
float accumulator[PER_LANE];
for (int i = 0; i < PER_LANE; ++i) {
    accumulator[i] = 0.0f;
}
for (int split = own_simd; split < splits; split += SIMD_GROUPS) {
    const float factor = exp2(max_and_sum[2 * split] - max_score);
    for (int i = 0; i < PER_LANE; ++i) {
        const int d = lane + 32 * i;
        if (d < D) {
            accumulator[i] += factor * accumulators[split * D + d];
        }
    }
}
for (int i = 0; i < PER_LANE; ++i) {
    const int d = lane + 32 * i;
    if (d < D) {
        group_accumulator[own_simd * D + d] = accumulator[i];
    }
}
threadgroup_barrier(mem_flags::mem_threadgroup);
for (int d = thread_index_in_threadgroup; d < D; d += SIMD_GROUPS * 32) {
    float total = 0.0f;
    for (int g = 0; g < SIMD_GROUPS; ++g) {
        total += group_accumulator[g * D + d];
    }
    out[row * D + d] = O(total / sum);
}
// [end]
