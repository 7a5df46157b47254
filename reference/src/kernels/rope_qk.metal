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
constexpr int ALL_HEADS = QUERY_HEADS + 2 * KEY_VALUE_HEADS;
const bool is_query = head_of_all < QUERY_HEADS;
const bool is_value = head_of_all >= QUERY_HEADS + KEY_VALUE_HEADS;

const long from = ((long(batch) * query_len + token) * ALL_HEADS + head_of_all) * D;
float a = float(projected[from + i]);
float b = float(projected[from + i + HALF]);
if (HAS_BIAS) {
    // Rounded where the plain layers round.
    a = float(T(a + float(bias[head_of_all * D + i])));
    b = float(T(b + float(bias[head_of_all * D + i + HALF])));
}
if (!is_value) {
    const int position = offsets[offsets_shape[0] == 1 ? 0 : batch] + token;
    const float c = cosines[long(position) * HALF + i];
    const float s = sines[long(position) * HALF + i];
    const float rotated = a * c - b * s;
    b = b * c + a * s;
    a = rotated;
}
// Keys and values are heads of one array, in the order in which they come.
device T* to = is_query ? rotated_query : keys_and_values;
const int heads = is_query ? QUERY_HEADS : 2 * KEY_VALUE_HEADS;
const int head = is_query ? head_of_all : head_of_all - QUERY_HEADS;
to += ((long(batch) * heads + head) * query_len + token) * D;
to[i] = T(a);
to[i + HALF] = T(b);
// [end]
