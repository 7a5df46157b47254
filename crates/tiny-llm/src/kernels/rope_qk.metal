// From the projections to what attention takes: adds the biases, rotates queries and keys, and moves the heads outwards.
//
// - query `[B, L, H_q * D]`, key and value `[B, L, H_kv * D]`; biases of as many numbers as their last axes (of one
//   element unless HAS_BIAS); cosines and sines `[max_positions, D / 2]`, float; offsets `[B]` or `[1]`, int: the position of the
//   first token of each row
// - rotated_query `[B, H_q, L, D]`, rotated_key and moved_value `[B, H_kv, L, D]`
// - template: T, the type of all arrays but cosines, sines and offsets; D; HAS_BIAS
// - threads: x number i of D / 2, y the head, of H_q + 2 * H_kv, z the token, of B * L
constexpr int HALF = D / 2;
const int i = thread_position_in_grid.x;
if (i >= HALF) {
    return;
}
const int query_len = query_shape[1];
const int num_heads = query_shape[2] / D;
const int num_kv_heads = key_shape[2] / D;
const int head_of_all = thread_position_in_grid.y;
const int batch = int(thread_position_in_grid.z) / query_len;
const int token = int(thread_position_in_grid.z) % query_len;

// [task 2.5.5] rope_qk
todo!("week 2 day 5 task 5: rope_qk - see book/src/week2/day5.md");
// [end]
