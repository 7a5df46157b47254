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
// Loops over tiles are unrolled: only arrays whose indices are known when the kernel is compiled can be registers.
TileAcc accumulator[ROW_TILES][HEAD_TILES];
// Of the rows that this lane owns.
float max_score[ROW_TILES][TILE_ROWS_PER_LANE];
float sum[ROW_TILES][TILE_ROWS_PER_LANE];
#pragma unroll
for (int m = 0; m < ROW_TILES; ++m) {
    #pragma unroll
    for (int d = 0; d < HEAD_TILES; ++d) {
        tile_clear(accumulator[m][d]);
    }
    #pragma unroll
    for (int i = 0; i < TILE_ROWS_PER_LANE; ++i) {
        max_score[m][i] = LOWEST;
        sum[m][i] = 0.0f;
    }
}

// How many keys the first query of this SIMD group sees; each further one sees one more, under a causal mask.
const int first_visible = CAUSAL ? first_query + own_row + (key_len - query_len) + 1 : key_len;
// Up to where anybody in this SIMD group, and in the threadgroup, sees anything.
const int own_end = n_own_rows <= 0 ? 0 : (CAUSAL ? first_visible + n_own_rows - 1 : key_len);
const int end = CAUSAL ? first_query + n_rows + (key_len - query_len) : key_len;

load_rows<T, D, ROWS, THREADS>(
    query_tile, queries, query_strides[2], query_strides[3], n_rows, queries_are_wide, thread_index);
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

    const bool sees_something = first < own_end;
    TileA<T> weights[ROW_TILES][KEY_TILES];
    if (sees_something) {
        TileAcc scores[ROW_TILES][KEY_TILES];
        #pragma unroll
        for (int m = 0; m < ROW_TILES; ++m) {
            #pragma unroll
            for (int t = 0; t < KEY_TILES; ++t) {
                tile_clear(scores[m][t]);
            }
        }
        #pragma unroll
        for (int d = 0; d < HEAD_TILES; ++d) {
            TileA<T> query_part[ROW_TILES];
            #pragma unroll
            for (int m = 0; m < ROW_TILES; ++m) {
                tile_load(query_part[m], query_tile + (own_row + 16 * m) * STRIDE + 16 * d, STRIDE);
            }
            #pragma unroll
            for (int t = 0; t < KEY_TILES; ++t) {
                // Loaded once for all row tiles.
                TileB<T> key_part;
                tile_load_transposed(key_part, key_tile + 16 * t * STRIDE + 16 * d, STRIDE);
                #pragma unroll
                for (int m = 0; m < ROW_TILES; ++m) {
                    tile_multiply_add(scores[m][t], query_part[m], key_part);
                }
            }
        }
        // Only tiles on the diagonal, and the last one, have keys that somebody doesn't see.
        if (first + KEYS > min(first_visible, key_len)) {
            #pragma unroll
            for (int m = 0; m < ROW_TILES; ++m) {
                #pragma unroll
                for (int t = 0; t < KEY_TILES; ++t) {
                    const int n_visible = first_visible + (CAUSAL ? 16 * m : 0) - first - 16 * t;
                    tile_for_each(scores[m][t], HideKeys{n_visible, CAUSAL ? 1 : 0});
                }
            }
        }
        // The online softmax of day 2.4, for 16 rows at once.
        #pragma unroll
        for (int m = 0; m < ROW_TILES; ++m) {
            float largest[TILE_ROWS_PER_LANE];
            float keep[TILE_ROWS_PER_LANE];
            float tile_sum[TILE_ROWS_PER_LANE];
            tile_row_max(scores[m], largest);
            #pragma unroll
            for (int i = 0; i < TILE_ROWS_PER_LANE; ++i) {
                const float new_max = max(max_score[m][i], largest[i]);
                keep[i] = fast::exp2((max_score[m][i] - new_max) * scale);
                max_score[m][i] = new_max;
                largest[i] = max(new_max * scale, LOWEST); // finite also if nothing is visible yet
            }
            #pragma unroll
            for (int d = 0; d < HEAD_TILES; ++d) {
                tile_scale_rows(accumulator[m][d], keep);
            }
            #pragma unroll
            for (int t = 0; t < KEY_TILES; ++t) {
                tile_for_each_of_row(scores[m][t], ScoresToWeights{largest, scale});
                tile_acc_to_a(weights[m][t], scores[m][t]);
            }
            tile_row_sum(scores[m], tile_sum);
            #pragma unroll
            for (int i = 0; i < TILE_ROWS_PER_LANE; ++i) {
                sum[m][i] = sum[m][i] * keep[i] + tile_sum[i];
            }
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
        #pragma unroll
        for (int t = 0; t < KEY_TILES; ++t) {
            #pragma unroll
            for (int d = 0; d < HEAD_TILES; ++d) {
                TileB<T> value_part;
                tile_load(value_part, value_tile + 16 * t * STRIDE + 16 * d, STRIDE);
                #pragma unroll
                for (int m = 0; m < ROW_TILES; ++m) {
                    tile_multiply_add(accumulator[m][d], weights[m][t], value_part);
                }
            }
        }
    }
}

device T* answer = out + ((long(batch) * query_shape[1] + head) * query_len + first_query + own_row) * D;
#pragma unroll
for (int m = 0; m < ROW_TILES; ++m) {
    // One division for a row, and not one for each of its numbers.
    float inverse[TILE_ROWS_PER_LANE];
    #pragma unroll
    for (int i = 0; i < TILE_ROWS_PER_LANE; ++i) {
        inverse[i] = 1.0f / sum[m][i];
    }
    #pragma unroll
    for (int d = 0; d < HEAD_TILES; ++d) {
        tile_scale_rows(accumulator[m][d], inverse);
        tile_for_each_pair(
            accumulator[m][d], WriteAnswer<T>{answer + 16 * m * D + 16 * d, D, n_own_rows - 16 * m});
    }
}
// [end]
