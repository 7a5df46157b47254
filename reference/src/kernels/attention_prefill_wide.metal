// FlashAttention-2 as in attention_prefill.metal, on wide tiles: four SIMD groups take 64 queries over the keys together. The
// matrix units read queries, keys and values from threadgroup memory by themselves, and go on while the SIMD groups compute
// weights: the scores of the next tile of keys are under way during the softmax of this one. So of keys and of values there
// are two tiles each.
//
// - query `[B, H_q, L, D]`, key and value `[B, H_kv, S, D]`, out `[B, H_q, L, D]`
// - template: T, half or bfloat16_t; D, 64 or 128; KEYS of a tile, 64 or 128; SIMD_GROUPS, a multiple of 4; CAUSAL;
//   SCALE_BITS, the scale as the bits of a positive float
// - threadgroups: x the query head, y the tile of queries, z the batch row
constexpr int ROWS = SIMD_GROUPS * 16;
constexpr int THREADS = SIMD_GROUPS * 32;
constexpr int HEAD_TILES = D / 16;
constexpr int KEY_TILES = KEYS / 16;
constexpr int TILE = KEYS * (D + WIDE_PADDING);
const float scale = as_type<float>(SCALE_BITS) * LOG2_E;
const int query_len = query_shape[2];
const int key_len = key_shape[2];
const int head = threadgroup_position_in_grid.x;
const int kv_head = head / (query_shape[1] / key_shape[1]);
const int batch = threadgroup_position_in_grid.z;
// Under a causal mask the last tiles have most to do: they begin first.
const int first_query = (threadgroups_per_grid.y - 1 - threadgroup_position_in_grid.y) * ROWS;
const int thread_index = thread_index_in_threadgroup;
const int own_row = 16 * simdgroup_index_in_threadgroup; // of the threadgroup's rows, this SIMD group's first
const int n_rows = min(ROWS, query_len - first_query);
const int n_own_rows = min(16, n_rows - own_row); // 0 or less: this SIMD group's answers are not written

threadgroup T key_tiles[2 * TILE];
threadgroup T value_tiles[2 * TILE];
threadgroup T query_tile[ROWS * (D + WIDE_PADDING)];

const device T* queries = query + batch * query_strides[0] + head * query_strides[1] + first_query * query_strides[2];
const device T* keys = key + batch * key_strides[0] + kv_head * key_strides[1];
const device T* values = value + batch * value_strides[0] + kv_head * value_strides[1];
const bool queries_are_wide = has_wide_rows(query, query_strides);
const bool keys_are_wide = has_wide_rows(key, key_strides);
const bool values_are_wide = has_wide_rows(value, value_strides);

// How many keys the first query of this SIMD group sees; each further one sees one more, under a causal mask.
const int first_visible = CAUSAL ? first_query + own_row + (key_len - query_len) + 1 : key_len;
// Up to where anybody in the threadgroup sees anything.
const int end = CAUSAL ? first_query + n_rows + (key_len - query_len) : key_len;
const int n_tiles = (end + KEYS - 1) / KEYS;

load_wide_tile<T, D, ROWS, THREADS>(
    query_tile, queries, query_strides[2], query_strides[3], n_rows, queries_are_wide, thread_index);
load_wide_tile<T, D, KEYS, THREADS>(
    key_tiles, keys, key_strides[2], key_strides[3], key_len, keys_are_wide, thread_index);
async_commit();
load_wide_tile<T, D, KEYS, THREADS>(
    value_tiles, values, value_strides[2], value_strides[3], key_len, values_are_wide, thread_index);
if (n_tiles > 1) {
    load_wide_tile<T, D, KEYS, THREADS>(
        key_tiles + TILE, keys + KEYS * key_strides[2], key_strides[2], key_strides[3], key_len - KEYS, keys_are_wide,
        thread_index);
}
async_commit();

TileAcc accumulator[HEAD_TILES];
// Of the rows that this lane owns.
float max_score[TILE_ROWS_PER_LANE];
float sum[TILE_ROWS_PER_LANE];
#pragma unroll
for (int d = 0; d < HEAD_TILES; ++d) {
    tile_clear(accumulator[d]);
}
#pragma unroll
for (int i = 0; i < TILE_ROWS_PER_LANE; ++i) {
    max_score[i] = LOWEST;
    sum[i] = 0.0f;
}

// Queries and the first keys are here.
async_wait<1>();
wide_publish();
threadgroup_barrier(mem_flags::mem_threadgroup);
TileAcc scores[KEY_TILES];
TileAcc next_scores[KEY_TILES];
wide_begin();
wide_multiply_transposed<ROWS, KEYS, D>(scores, query_tile, own_row, key_tiles);
wide_commit();
wide_wait<0>();
for (int tile = 0; tile < n_tiles; ++tile) {
    const int first = tile * KEYS;
    // The values of this tile and the next keys are here, and nobody works with this tile's keys any more, nor with the
    // values of the tile before.
    async_wait<0>();
    wide_publish();
    threadgroup_barrier(mem_flags::mem_threadgroup);
    if (tile + 1 < n_tiles) {
        const int next = first + KEYS;
        load_wide_tile<T, D, KEYS, THREADS>(
            value_tiles + (tile + 1) % 2 * TILE, values + next * value_strides[2], value_strides[2], value_strides[3],
            key_len - next, values_are_wide, thread_index);
    }
    if (tile + 2 < n_tiles) {
        const int next = first + 2 * KEYS;
        load_wide_tile<T, D, KEYS, THREADS>(
            key_tiles + tile % 2 * TILE, keys + next * key_strides[2], key_strides[2], key_strides[3], key_len - next,
            keys_are_wide, thread_index);
    }
    async_commit();

    // The next scores. In the last step these are the last ones again, and nobody looks at them: products stand outside of
    // branches, or the compiler waits for each.
    wide_begin();
    wide_multiply_transposed<ROWS, KEYS, D>(
        next_scores, query_tile, own_row, key_tiles + min(tile + 1, n_tiles - 1) % 2 * TILE);
    wide_commit();

    // Only tiles on the diagonal, and the last one, have keys that somebody doesn't see.
    if (first + KEYS > min(first_visible, key_len)) {
        #pragma unroll
        for (int t = 0; t < KEY_TILES; ++t) {
            tile_for_each(scores[t], HideKeys{first_visible - first - 16 * t, CAUSAL ? 1 : 0});
        }
    }
    // The online softmax of day 2.4, for 16 rows at once.
    float largest[TILE_ROWS_PER_LANE];
    float keep[TILE_ROWS_PER_LANE];
    float tile_sum[TILE_ROWS_PER_LANE];
    tile_row_max(scores, largest);
    #pragma unroll
    for (int i = 0; i < TILE_ROWS_PER_LANE; ++i) {
        const float new_max = max(max_score[i], largest[i]);
        keep[i] = fast::exp2((max_score[i] - new_max) * scale);
        max_score[i] = new_max;
        largest[i] = max(new_max * scale, LOWEST); // finite also if nothing is visible yet
    }
    TileA<T> weights[KEY_TILES];
    #pragma unroll
    for (int t = 0; t < KEY_TILES; ++t) {
        tile_for_each_of_row(scores[t], ScoresToWeights{largest, scale});
        tile_acc_to_a(weights[t], scores[t]);
    }
    tile_row_sum(scores, tile_sum);
    #pragma unroll
    for (int i = 0; i < TILE_ROWS_PER_LANE; ++i) {
        sum[i] = sum[i] * keep[i] + tile_sum[i];
    }
    // After some tiles a maximum seldom grows.
    if (simd_any(keep[0] != 1.0f || keep[1] != 1.0f)) {
        #pragma unroll
        for (int d = 0; d < HEAD_TILES; ++d) {
            tile_scale_rows(accumulator[d], keep);
        }
    }

    wide_begin();
    wide_multiply_add<KEYS, D>(accumulator, weights, value_tiles + tile % 2 * TILE);
    wide_commit();
    wide_wait<0>();
    #pragma unroll
    for (int t = 0; t < KEY_TILES; ++t) {
        scores[t] = next_scores[t];
    }
}

device T* answer = out + ((long(batch) * query_shape[1] + head) * query_len + first_query + own_row) * D;
// One division for a row, and not one for each of its numbers.
float inverse[TILE_ROWS_PER_LANE];
#pragma unroll
for (int i = 0; i < TILE_ROWS_PER_LANE; ++i) {
    inverse[i] = 1.0f / sum[i];
}
#pragma unroll
for (int d = 0; d < HEAD_TILES; ++d) {
    tile_scale_rows(accumulator[d], inverse);
    tile_for_each_pair(accumulator[d], WriteAnswer<T>{answer + 16 * d, D, n_own_rows});
}
