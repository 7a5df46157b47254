// Attention for few queries: a threadgroup takes some rows of one key/value head through one split of the keys.
//
// Row r of a key/value head is query head `kv_head * group + r % group` at position r / group: the query heads of a group
// share every key and value that is loaded.
//
// - query `[B, H_q, L, D]`, key and value `[B, H_kv, S, D]`
// - out `[B, H_q, L, splits, D]`, of type O; statistics `[B, H_q, L, splits, 2]`, float: the maximum, in units of log 2,
//   and the sum of each split
// - template: T, the type of query, key and value; O; D, of which 16 / sizeof(T) numbers for each of 1, 2, 4, .. 32 lanes
//   are a row; ROWS, of a threadgroup; SIMD_GROUPS; CAUSAL; IS_WHOLE: there is one split, out is the answer;
//   SCALE_BITS, the scale as the bits of a float
// - threadgroups: x the split, y the key/value head and the block of rows, z the batch row
constexpr int WIDE = 16 / sizeof(T);     // numbers that a lane loads at once
constexpr int KEY_LANES = D / WIDE;      // lanes that hold a key together
constexpr int KEYS = 32 / KEY_LANES;     // keys that a SIMD group holds at once
constexpr int STEPS = 4;                 // so many times, before it looks at their scores
const float scale = as_type<float>(SCALE_BITS) * LOG2_E;
const int num_heads = query_shape[1];
const int query_len = query_shape[2];
const int num_kv_heads = key_shape[1];
const int key_len = key_shape[2];
const int group = num_heads / num_kv_heads;

const int split = threadgroup_position_in_grid.x;
const int splits = threadgroups_per_grid.x;
const int batch = threadgroup_position_in_grid.z;
const int kv_head = threadgroup_position_in_grid.y % num_kv_heads;
const int first_row = threadgroup_position_in_grid.y / num_kv_heads * ROWS;
const int n_rows = min(int(ROWS), group * query_len - first_row);
const int own_simd = simdgroup_index_in_threadgroup;
const int lane = thread_index_in_simdgroup;
const int key_lane = lane % KEY_LANES;   // which part of a key this lane holds
const int key_of_lane = lane / KEY_LANES; // and of which key

// What the SIMD groups found, to be merged.
threadgroup float group_max[SIMD_GROUPS * ROWS];
threadgroup float group_sum[SIMD_GROUPS * ROWS];
threadgroup float group_accumulator[SIMD_GROUPS * ROWS * D];

const device T* keys = key + batch * key_strides[0] + kv_head * key_strides[1];
const device T* values = value + batch * value_strides[0] + kv_head * value_strides[1];
const bool keys_are_wide = has_wide_rows(key, key_strides);
const bool values_are_wide = has_wide_rows(value, value_strides);

// Rows behind the last one repeat it: they cost nothing more, and nobody writes them down.
float scaled_query[ROWS][WIDE];
int n_visible[ROWS];
int last_visible = 0;
for (int r = 0; r < ROWS; ++r) {
    const int row = first_row + min(r, n_rows - 1);
    const int position = row / group;
    const device T* q = query + batch * query_strides[0] + (kv_head * group + row % group) * query_strides[1] +
                        position * query_strides[2];
    for (int i = 0; i < WIDE; ++i) {
        scaled_query[r][i] = scale * float(q[(key_lane * WIDE + i) * query_strides[3]]);
    }
    n_visible[r] = CAUSAL ? position + (key_len - query_len) + 1 : key_len;
    last_visible = max(last_visible, n_visible[r]);
}

// Splits are equally long, but for the last ones. One may be empty, under a causal mask too.
const int split_len = (key_len + splits - 1) / splits;
const int begin = split * split_len;
const int end = min(begin + split_len, last_visible);

float max_score[ROWS];
float sum[ROWS];
float accumulator[ROWS][WIDE];
for (int r = 0; r < ROWS; ++r) {
    max_score[r] = LOWEST;
    sum[r] = 0.0f;
    for (int i = 0; i < WIDE; ++i) {
        accumulator[r][i] = 0.0f;
    }
}

// [task 2.5.2] attention_decode: the keys of a SIMD group
todo!("week 2 day 5 task 2: attention_decode: the keys of a SIMD group - see book/src/week2/day5.md");
// [end]
threadgroup_barrier(mem_flags::mem_threadgroup);

// [task 2.5.2] attention_decode: merging the SIMD groups
todo!("week 2 day 5 task 2: attention_decode: merging the SIMD groups - see book/src/week2/day5.md");
// [end]
