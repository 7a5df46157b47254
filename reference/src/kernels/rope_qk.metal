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
// Which of the three arrays, and which head of it.
const bool is_query = head_of_all < num_heads;
const bool is_key = !is_query && head_of_all < num_heads + num_kv_heads;
const int head = is_query ? head_of_all : (head_of_all - num_heads) % num_kv_heads;
const int heads = is_query ? num_heads : num_kv_heads;
const device T* from = is_query ? query : (is_key ? key : value);
const device T* bias = is_query ? query_bias : (is_key ? key_bias : value_bias);
device T* to = is_query ? rotated_query : (is_key ? rotated_key : moved_value);

from += (long(batch) * query_len + token) * heads * D + head * D;
float a = float(from[i]);
float b = float(from[i + HALF]);
if (HAS_BIAS) {
    // Rounded where the plain layers round.
    a = float(T(a + float(bias[head * D + i])));
    b = float(T(b + float(bias[head * D + i + HALF])));
}
if (is_query || is_key) {
    const int position = offsets[offsets_shape[0] == 1 ? 0 : batch] + token;
    const float c = cosines[long(position) * HALF + i];
    const float s = sines[long(position) * HALF + i];
    const float rotated = a * c - b * s;
    b = b * c + a * s;
    a = rotated;
}
to += ((long(batch) * heads + head) * query_len + token) * D;
to[i] = T(a);
to[i + HALF] = T(b);
// [end]
