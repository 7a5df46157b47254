// FlashAttention-2: a threadgroup takes a tile of queries of one head over the keys, one tile of keys at a time, on the
// matrix units. Queries, keys and values are in threadgroup memory, where all its SIMD groups read them; each SIMD group
// has ROW_TILES times 16 queries of its own, whose scores and answers are in its registers.
//
// - query `[B, H_q, L, D]`, key and value `[B, H_kv, S, D]`, out `[B, H_q, L, D]`
// - template: T, half or bfloat16_t; D, a multiple of 16; KEYS of a tile, a multiple of 16; SIMD_GROUPS; ROW_TILES; CAUSAL;
//   SCALE_BITS, the scale as the bits of a positive float
// - threadgroups: x the query head, y the tile of queries, z the batch row
constexpr int OWN_ROWS = ROW_TILES * 16;
constexpr int ROWS = SIMD_GROUPS * OWN_ROWS;
constexpr int THREADS = SIMD_GROUPS * 32;
constexpr int STRIDE = D + PADDING;
constexpr int HEAD_TILES = D / 16;
constexpr int KEY_TILES = KEYS / 16;
const float scale = as_type<float>(SCALE_BITS) * LOG2_E;
const int query_len = query_shape[2];
const int key_len = key_shape[2];
const int head = threadgroup_position_in_grid.x;
const int kv_head = head / (query_shape[1] / key_shape[1]);
const int batch = threadgroup_position_in_grid.z;
// Under a causal mask the last tiles have most to do: they begin first.
const int first_query = (threadgroups_per_grid.y - 1 - threadgroup_position_in_grid.y) * ROWS;
const int thread_index = thread_index_in_threadgroup;
const int own_row = OWN_ROWS * simdgroup_index_in_threadgroup; // of the threadgroup's rows, this SIMD group's first
const int n_rows = min(ROWS, query_len - first_query);
const int n_own_rows = min(OWN_ROWS, n_rows - own_row); // 0 or less: this SIMD group only helps loading

threadgroup T query_tile[ROWS * STRIDE];
threadgroup T key_tile[KEYS * STRIDE];
threadgroup T value_tile[KEYS * STRIDE];

const device T* queries = query + batch * query_strides[0] + head * query_strides[1] + first_query * query_strides[2];
const device T* keys = key + batch * key_strides[0] + kv_head * key_strides[1];
const device T* values = value + batch * value_strides[0] + kv_head * value_strides[1];
const bool queries_are_wide = has_wide_rows(query, query_strides);
const bool keys_are_wide = has_wide_rows(key, key_strides);
const bool values_are_wide = has_wide_rows(value, value_strides);

// [task 2.5.4] attention_prefill
todo!("week 2 day 5 task 4: attention_prefill - see book/src/week2/day5.md");
// [end]
