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
// The SIMD groups take turns, each KEYS * STEPS keys at a time.
for (int first = begin + own_simd * KEYS * STEPS; first < end; first += SIMD_GROUPS * KEYS * STEPS) {
    // All loads first: while the first ones are on their way, the others are already asked for.
    uint4 key_words[STEPS];
    uint4 value_words[STEPS];
    for (int step = 0; step < STEPS; ++step) {
        // Keys behind the end repeat the last one, and get the weight 0.
        const int j = min(first + step * KEYS + key_of_lane, end - 1);
        const device T* k = keys + j * key_strides[2] + key_lane * WIDE * key_strides[3];
        const device T* v = values + j * value_strides[2] + key_lane * WIDE * value_strides[3];
        key_words[step] = load_wide<T>(k, key_strides[3], keys_are_wide);
        value_words[step] = load_wide<T>(v, value_strides[3], values_are_wide);
    }
    float scores[ROWS][STEPS];
    for (int step = 0; step < STEPS; ++step) {
        float numbers[WIDE];
        unpack_wide<T>(key_words[step], numbers);
        const int j = first + step * KEYS + key_of_lane;
        for (int r = 0; r < ROWS; ++r) {
            float part = 0.0f;
            for (int i = 0; i < WIDE; ++i) {
                part += scaled_query[r][i] * numbers[i];
            }
            for (int distance = KEY_LANES / 2; distance > 0; distance /= 2) {
                part += simd_shuffle_xor(part, ushort(distance));
            }
            scores[r][step] = j < min(end, n_visible[r]) ? part : -INFINITY;
        }
    }
    for (int r = 0; r < ROWS; ++r) {
        float new_max = max_score[r];
        for (int step = 0; step < STEPS; ++step) {
            new_max = max(new_max, scores[r][step]);
        }
        const float keep = exp2(max_score[r] - new_max);
        max_score[r] = new_max;
        sum[r] *= keep;
        for (int i = 0; i < WIDE; ++i) {
            accumulator[r][i] *= keep;
        }
        for (int step = 0; step < STEPS; ++step) {
            scores[r][step] = exp2(scores[r][step] - new_max); // the weight, from here on
            sum[r] += scores[r][step];
        }
    }
    for (int step = 0; step < STEPS; ++step) {
        float numbers[WIDE];
        unpack_wide<T>(value_words[step], numbers);
        for (int r = 0; r < ROWS; ++r) {
            for (int i = 0; i < WIDE; ++i) {
                accumulator[r][i] += scores[r][step] * numbers[i];
            }
        }
    }
}

// The lanes that hold different keys merge: each has a maximum, a sum and an accumulator of its own.
for (int r = 0; r < ROWS; ++r) {
    float new_max = max_score[r];
    for (int distance = KEY_LANES; distance < 32; distance *= 2) {
        new_max = max(new_max, simd_shuffle_xor(new_max, ushort(distance)));
    }
    const float factor = exp2(max_score[r] - new_max);
    max_score[r] = new_max;
    sum[r] *= factor;
    for (int i = 0; i < WIDE; ++i) {
        accumulator[r][i] *= factor;
    }
    for (int distance = KEY_LANES; distance < 32; distance *= 2) {
        sum[r] += simd_shuffle_xor(sum[r], ushort(distance));
        for (int i = 0; i < WIDE; ++i) {
            accumulator[r][i] += simd_shuffle_xor(accumulator[r][i], ushort(distance));
        }
    }
    if (lane == 0) {
        group_max[own_simd * ROWS + r] = max_score[r];
        group_sum[own_simd * ROWS + r] = sum[r];
    }
    if (key_of_lane == 0) {
        for (int i = 0; i < WIDE; ++i) {
            group_accumulator[(own_simd * ROWS + r) * D + key_lane * WIDE + i] = accumulator[r][i];
        }
    }
}
// [end]
threadgroup_barrier(mem_flags::mem_threadgroup);

// [task 2.5.2] attention_decode: merging the SIMD groups
// One thread for each number of the answer.
for (int index = thread_index_in_threadgroup; index < n_rows * D; index += SIMD_GROUPS * 32) {
    const int r = index / D;
    const int d = index % D;
    float all_max = LOWEST;
    for (int g = 0; g < SIMD_GROUPS; ++g) {
        all_max = max(all_max, group_max[g * ROWS + r]);
    }
    float all_sum = 0.0f;
    float total = 0.0f;
    for (int g = 0; g < SIMD_GROUPS; ++g) {
        const float factor = exp2(group_max[g * ROWS + r] - all_max);
        all_sum += group_sum[g * ROWS + r] * factor;
        total += group_accumulator[(g * ROWS + r) * D + d] * factor;
    }
    const int row = first_row + r;
    const int head = kv_head * group + row % group;
    const long place = ((long(batch) * num_heads + head) * query_len + row / group) * splits + split;
    out[place * D + d] = O(IS_WHOLE ? total / all_sum : total);
    if (d == 0) {
        statistics[2 * place] = all_max;
        statistics[2 * place + 1] = all_sum;
    }
}
// [end]
