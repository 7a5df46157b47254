// Attention, one SIMD group for each query: no tiles, no threadgroup memory. Takes every mask and every head size.
//
// - query `[B, H_q, L, D]`, key and value `[B, H_kv, S, D]`, mask `[B, H_q, L, S]` (any array where MASK says that
//   there is none); out `[B, H_q, L, D]`, of type T
// - template: T, the type of query, key and value; M, the type of the mask; D; MASK: 0 none, 1 causal, 2 allowed
//   (M is uchar, 1: may attend), 3 additive; SCALE_BITS, the scale as the bits of a float
// - grid: 32 threads for each query; threadgroups of any number of SIMD groups
constexpr int PER_LANE = (D + 31) / 32;
const float scale = as_type<float>(SCALE_BITS);
const int num_heads = query_shape[1];
const int query_len = query_shape[2];
const int group = num_heads / key_shape[1];
const int key_len = key_shape[2];

const int lane = thread_index_in_simdgroup;
const int row = thread_position_in_grid.x / 32; // of B * H_q * L
if (row >= query_shape[0] * num_heads * query_len) {
    return;
}
const int position = row % query_len;
const int head = row / query_len % num_heads;
const int batch = row / query_len / num_heads;

// [task 2.5.1] attention_plain
todo!("week 2 day 5 task 1: attention_plain - see book/src/week2/day5.md");
// [end]
