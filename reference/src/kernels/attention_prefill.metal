// FlashAttention-2: a threadgroup takes a tile of queries of one head over the keys, one tile of keys at a time, on the
// matrix units. Each of its SIMD groups holds 16 queries; they share the keys and values, in threadgroup memory.
//
// - query `[B, H_q, L, D]`, key and value `[B, H_kv, S, D]`, out `[B, H_q, L, D]`
// - template: T, half or bfloat16_t; D, a multiple of 16; KEYS of a tile, a multiple of 16; SIMD_GROUPS; CAUSAL;
//   SCALE_BITS, the scale as the bits of a positive float
// - threadgroups: x the query head, y the tile of queries, z the batch row
constexpr int ROWS = SIMD_GROUPS * 16;
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
const int simd_group = simdgroup_index_in_threadgroup;
const int n_rows = min(ROWS, query_len - first_query);
const int rows_of_simd_group = min(16, n_rows - 16 * simd_group); // 0 or less: this SIMD group only helps loading

// Holds the queries at first; then a tile of keys, and behind it one of values.
threadgroup T memory[(ROWS > 2 * KEYS ? ROWS : 2 * KEYS) * STRIDE];
threadgroup T* key_tile = memory;
threadgroup T* value_tile = memory + KEYS * STRIDE;

const device T* queries = query + batch * query_strides[0] + head * query_strides[1] + first_query * query_strides[2];
const device T* keys = key + batch * key_strides[0] + kv_head * key_strides[1];
const device T* values = value + batch * value_strides[0] + kv_head * value_strides[1];
const bool queries_are_wide = has_wide_rows(query, query_strides);
const bool keys_are_wide = has_wide_rows(key, key_strides);
const bool values_are_wide = has_wide_rows(value, value_strides);

// [task 2.5.4] attention_prefill
load_rows<T, D, ROWS, THREADS>(
    memory, queries, query_strides[2], query_strides[3], n_rows, queries_are_wide, thread_index);
async_commit();
async_wait<0>();
threadgroup_barrier(mem_flags::mem_threadgroup);
// From here on each SIMD group has its queries in registers.
TileA<T> query_tiles[HEAD_TILES];
for (int d = 0; d < HEAD_TILES; ++d) {
    tile_load(query_tiles[d], memory + 16 * simd_group * STRIDE + 16 * d, STRIDE);
}
threadgroup_barrier(mem_flags::mem_threadgroup);

TileAcc accumulator[HEAD_TILES];
for (int d = 0; d < HEAD_TILES; ++d) {
    tile_clear(accumulator[d]);
}
// Of the rows that this lane owns.
float max_score[TILE_ROWS_PER_LANE];
float sum[TILE_ROWS_PER_LANE];
for (int i = 0; i < TILE_ROWS_PER_LANE; ++i) {
    max_score[i] = LOWEST;
    sum[i] = 0.0f;
}

// How many keys the first query of this SIMD group sees; each further one sees one more, under a causal mask.
const int first_visible = CAUSAL ? first_query + 16 * simd_group + (key_len - query_len) + 1 : key_len;
// Up to where anybody in this SIMD group, and in the threadgroup, sees anything.
const int end_of_simd_group =
    rows_of_simd_group <= 0 ? 0 : (CAUSAL ? first_visible + rows_of_simd_group - 1 : key_len);
const int end = CAUSAL ? first_query + n_rows + (key_len - query_len) : key_len;

load_rows<T, D, KEYS, THREADS>(
    key_tile, keys, key_strides[2], key_strides[3], key_len, keys_are_wide, thread_index);
async_commit();
for (int first = 0; first < end; first += KEYS) {
    // The keys are here, and nobody works with the values of the tile before any more.
    async_wait<0>();
    threadgroup_barrier(mem_flags::mem_threadgroup);
    load_rows<T, D, KEYS, THREADS>(
        value_tile, values + first * value_strides[2], value_strides[2], value_strides[3], key_len - first,
        values_are_wide, thread_index);
    async_commit();

    const bool sees_something = first < end_of_simd_group;
    TileA<T> weights[KEY_TILES];
    if (sees_something) {
        TileAcc scores[KEY_TILES];
        for (int t = 0; t < KEY_TILES; ++t) {
            tile_clear(scores[t]);
        }
        for (int d = 0; d < HEAD_TILES; ++d) {
            for (int t = 0; t < KEY_TILES; ++t) {
                TileB<T> key_part;
                tile_load_transposed(key_part, key_tile + 16 * t * STRIDE + 16 * d, STRIDE);
                tile_multiply_add(scores[t], query_tiles[d], key_part);
            }
        }
        // Only tiles on the diagonal, and the last one, have keys that somebody doesn't see.
        if (first + KEYS > min(first_visible, key_len)) {
            for (int t = 0; t < KEY_TILES; ++t) {
                tile_for_each(scores[t], HideKeys{first_visible - first - 16 * t, CAUSAL ? 1 : 0});
            }
        }
        // The online softmax of day 2.4, for 16 rows at once.
        float largest[TILE_ROWS_PER_LANE];
        float keep[TILE_ROWS_PER_LANE];
        tile_row_max(scores, largest);
        for (int i = 0; i < TILE_ROWS_PER_LANE; ++i) {
            const float new_max = max(max_score[i], largest[i]);
            keep[i] = exp2((max_score[i] - new_max) * scale);
            sum[i] *= keep[i];
            max_score[i] = new_max;
            largest[i] = max(new_max * scale, LOWEST); // finite also if nothing is visible yet
        }
        for (int d = 0; d < HEAD_TILES; ++d) {
            tile_scale_rows(accumulator[d], keep);
        }
        for (int t = 0; t < KEY_TILES; ++t) {
            tile_for_each_of_row(scores[t], ScoresToWeights{largest, scale});
            tile_acc_to_a(weights[t], scores[t]);
        }
        float tile_sum[TILE_ROWS_PER_LANE];
        tile_row_sum(scores, tile_sum);
        for (int i = 0; i < TILE_ROWS_PER_LANE; ++i) {
            sum[i] += tile_sum[i];
        }
    }

    // The values are here, and nobody works with the keys any more.
    async_wait<0>();
    threadgroup_barrier(mem_flags::mem_threadgroup);
    if (first + KEYS < end) {
        const int next = first + KEYS;
        load_rows<T, D, KEYS, THREADS>(
            key_tile, keys + next * key_strides[2], key_strides[2], key_strides[3], key_len - next, keys_are_wide,
            thread_index);
    }
    async_commit();
    if (sees_something) {
        for (int t = 0; t < KEY_TILES; ++t) {
            for (int d = 0; d < HEAD_TILES; ++d) {
                TileB<T> value_part;
                tile_load(value_part, value_tile + 16 * t * STRIDE + 16 * d, STRIDE);
                tile_multiply_add(accumulator[d], weights[t], value_part);
            }
        }
    }
}

device T* answer = out + ((long(batch) * query_shape[1] + head) * query_len + first_query + 16 * simd_group) * D;
for (int d = 0; d < HEAD_TILES; ++d) {
    tile_for_each_of_row(accumulator[d], WriteAnswer<T>{answer + 16 * d, D, rows_of_simd_group, sum});
}
// [end]
