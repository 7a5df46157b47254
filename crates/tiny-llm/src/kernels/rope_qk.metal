// From the projection to what attention takes: adds the bias, rotates queries and keys, and moves the heads outwards.
//
// - projected `[B * L, (H_q + 2 * H_kv) * D]`, of each token the heads of the queries, of the keys, of the values; bias of as many
//   numbers as a token has (not read unless HAS_BIAS); cosines and sines `[max_positions, D / 2]`, float; offsets `[B]` or
//   `[1]`, int: the position of the first token of each row
// - rotated_query `[B, H_q, L, D]`; keys_and_values `[B, 2 * H_kv, L, D]`, rotated keys and behind them the values
// - template: T, the type of all arrays but cosines, sines and offsets; D; QUERY_HEADS and KEY_VALUE_HEADS, H_q and H_kv; HAS_BIAS
// - threadgroups: x the token, of L, y the head, of H_q + 2 * H_kv, z the row, of B; threads: x number i of D / 2
constexpr int HALF = D / 2;
const int i = thread_position_in_threadgroup.x;
if (i >= HALF) {
    return;
}
const int query_len = threadgroups_per_grid.x;
const int token = threadgroup_position_in_grid.x;
const int head_of_all = threadgroup_position_in_grid.y;
const int batch = threadgroup_position_in_grid.z;

// [task 2.5.5] rope_qk
todo!("week 2 day 5 task 5: rope_qk - see book/src/week2/day5.md");
// [end]
