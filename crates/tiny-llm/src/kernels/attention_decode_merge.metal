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
todo!("week 2 day 5 task 3: attention_decode_merge - see book/src/week2/day5.md");
// [end]
