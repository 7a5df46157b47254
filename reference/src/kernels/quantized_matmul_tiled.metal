// Inputs: x [M, K], packed [N, K * BITS / 32] uint, scales and biases [N, K / GROUP_SIZE], bias [N].
// Output: out [SPLITS, M, N], whose sum over SPLITS is the result.
// Template: T (of x and the tiles), O (of out), TILE_M, TILE_N, TILE_K (16 or 32), SIMD_M and SIMD_N (how the SIMD groups share the
// tile; SIMD_M * SIMD_N * 32 = threads), SPLITS (K is shared by so many threadgroups), BITS, GROUP_SIZE, HAS_BIAS.
//
// A threadgroup computes TILE_M x TILE_N outputs. It walks along K in steps of TILE_K: x as it is and the weights
// dequantized stand in threadgroup memory, twice, so that one step is fetched while the other is multiplied.

constexpr int STRIDE = TILE_K + 8; // Padding of at least 16 bytes: rows begin in different banks.
constexpr int THREADS = SIMD_M * SIMD_N * 32;
threadgroup T x_tiles[2 * TILE_M * STRIDE];
threadgroup T w_tiles[2 * TILE_N * STRIDE];
// [task 2.3.4] quantized_matmul_tiled
const int M = x_shape[0];
const int K = x_shape[1];
const int N = packed_shape[0];
const int first_m = int(threadgroup_position_in_grid.x) * TILE_M;
const int first_n = int(threadgroup_position_in_grid.y) * TILE_N;
const int split = int(threadgroup_position_in_grid.z);
const int thread_index = int(thread_index_in_threadgroup);

// Which part of a step this thread fetches. Rows past the end repeat the last row; their results are not stored.
const int per_word = 32 / BITS;
const int words_per_step = TILE_K / per_word; // of one row
const int words_per_thread = TILE_N * words_per_step / THREADS;
const int w_row = thread_index * words_per_thread / words_per_step;
const int w_word = thread_index * words_per_thread % words_per_step;
const size_t w_source = min(first_n + w_row, N - 1);
const device uint* my_words = packed + w_source * (K / per_word) + w_word;
const size_t my_groups = w_source * (K / GROUP_SIZE);
const float steps = float(1 << BITS);
uint words[words_per_thread];
float scale = 0.0f;
float offset = 0.0f;

// The SIMD group's part of the tile: ROWS x COLUMNS tiles of 16 x 16.
constexpr int ROWS = TILE_M / SIMD_M / 16;
constexpr int COLUMNS = TILE_N / SIMD_N / 16;
const int simd_m = int(simdgroup_index_in_threadgroup) / SIMD_N * (ROWS * 16);
const int simd_n = int(simdgroup_index_in_threadgroup) % SIMD_N * (COLUMNS * 16);
TileAcc sums[ROWS * COLUMNS];
#pragma unroll
for (int i = 0; i < ROWS * COLUMNS; i++) {
    tile_clear(sums[i]);
}

const int pieces_per_row = TILE_K * int(sizeof(T)) / 16;
const int per_piece = 16 / int(sizeof(T));
const int steps_of_split = (K / TILE_K + SPLITS - 1) / SPLITS;
const int first_step = split * steps_of_split;
const int end_step = min(first_step + steps_of_split, K / TILE_K);
// One step more than there are: the first only fetches.
for (int step = first_step - 1; step < end_step; step++) {
    const int next = step + 1;
    if (step >= first_step) {
        // The words of this step, which arrived while the last one was multiplied.
        threadgroup T* to = w_tiles + (step % 2) * (TILE_N * STRIDE) + w_row * STRIDE + w_word * per_word;
        #pragma unroll
        for (int w = 0; w < words_per_thread; w++) {
            float weights[8];
            #pragma unroll
            for (int i = 0; i < per_word; i++) {
                // scale * integer + offset, by way of v = 1 + integer / 2^BITS.
                weights[i] = fma(one_plus_fraction<BITS>(words[w], i), steps * scale, offset - steps * scale);
            }
            store_word_in_tile<BITS>(to + w * per_word, weights);
        }
        async_wait<0>();
        // From here on everyone sees this step's tiles, and nobody reads the last step's any more.
        threadgroup_barrier(mem_flags::mem_threadgroup);
    }
    if (next < end_step) {
        threadgroup T* x_tile = x_tiles + (next % 2) * (TILE_M * STRIDE);
        for (int piece = thread_index; piece < TILE_M * pieces_per_row; piece += THREADS) {
            const int row = piece / pieces_per_row;
            const int column = piece % pieces_per_row * per_piece;
            const size_t m = min(first_m + row, M - 1);
            async_copy16(x_tile + row * STRIDE + column, x + m * K + next * TILE_K + column);
        }
        async_commit();
        #pragma unroll
        for (int w = 0; w < words_per_thread; w++) {
            words[w] = my_words[next * words_per_step + w];
        }
        const size_t group = my_groups + (next * TILE_K + w_word * per_word) / GROUP_SIZE;
        scale = float(scales[group]);
        offset = float(biases[group]);
    }
    if (step >= first_step) {
        const threadgroup T* x_tile = x_tiles + (step % 2) * (TILE_M * STRIDE) + simd_m * STRIDE;
        const threadgroup T* w_tile = w_tiles + (step % 2) * (TILE_N * STRIDE) + simd_n * STRIDE;
        #pragma unroll
        for (int k = 0; k < TILE_K; k += 16) {
            TileA<T> a[ROWS];
            #pragma unroll
            for (int i = 0; i < ROWS; i++) {
                tile_load(a[i], x_tile + i * 16 * STRIDE + k, STRIDE);
            }
            #pragma unroll
            for (int j = 0; j < COLUMNS; j++) {
                TileB<T> b;
                tile_load_transposed(b, w_tile + j * 16 * STRIDE + k, STRIDE);
                #pragma unroll
                for (int i = 0; i < ROWS; i++) {
                    tile_multiply_add(sums[i * COLUMNS + j], a[i], b);
                }
            }
        }
    }
}
#pragma unroll
for (int i = 0; i < ROWS * COLUMNS; i++) {
    const int m = first_m + simd_m + i / COLUMNS * 16;
    const int n = first_n + simd_n + i % COLUMNS * 16;
    tile_for_each(sums[i], [&](ushort row, ushort column, thread float& value) {
        if (m + row < M && n + column < N) {
            const float added = HAS_BIAS && split == 0 ? float(bias[n + column]) : 0.0f;
            out[(size_t(split) * M + m + row) * N + n + column] = O(value + added);
        }
    });
}
// [end]
