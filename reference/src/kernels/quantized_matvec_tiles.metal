// Few tokens on the matrix units, 4 bits: up to 8 tokens cost no more than one.
//
// Inputs: x [M, K], packed [N, K / 8] uint, scales and biases [N, K / GROUP_SIZE], bias [N].
// Output: out [M, N]; if GATED [M, N / 2], of which each number is made from two products: row n of the weights is a row of gate, row
// N / 2 + n the same row of up.
// Template: T, half or bfloat16_t (of x and out); TOKENS (of a threadgroup, 1 or 8); ROW_TILES (a threadgroup computes so many
// times 16 outputs); RUN (groups that a SIMD group takes at a time, 1 or 2; a row has a multiple of them); SIMD_GROUPS;
// GROUP_SIZE (32, 64 or 128); HAS_BIAS; GATED (then ROW_TILES is even: a tile of gate, one of up, ...).
// Threadgroups: x the tokens, y the outputs.
//
// The weights are the left operand of a product of tiles, the tokens the right one. A tile of weights is built in registers:
// a lane owns pairs of neighbours in a row of the tile, and unpacks them from a word that it loaded itself. Which two weights
// stand side by side doesn't matter as long as the numbers of x do likewise, so those two are taken that cost least: integers
// i and i + 4 of a word, which are 16 bits apart already.
//
// Within a group, Σ (scale * integer + bias) * x = scale * Σ integer * x + bias * Σ x. The tiles hold v = 1 + integer / 16, which
// 16-bit numbers hold exactly, and a left operand of ones gives Σ x:
//     Σ integer * x = 16 * (Σ v * x - Σ x)
constexpr int ROWS = 16 * ROW_TILES;
constexpr int WORDS = GROUP_SIZE / 32; // of a lane, in one row and group
constexpr int PARTS = GATED ? 2 : 1;   // of the weights' rows; an output takes a row of each
constexpr int OUTPUTS = ROWS / PARTS;
threadgroup float parts[SIMD_GROUPS * TOKENS * ROWS];
const int M = x_shape[0];
const int K = x_shape[1];
const int N = packed_shape[0];
const int groups = K / GROUP_SIZE;
const int first_token = int(threadgroup_position_in_grid.x) * TOKENS;
const int part_rows = N / PARTS;
const int first_output = int(threadgroup_position_in_grid.y) * OUTPUTS;
const int own_simd = simdgroup_index_in_threadgroup;
const int lane_row = tile_pair_row();
const int quarter = tile_pair_column(); // of a group

// Where this lane's numbers lie: a quarter of each group, of 2 * ROW_TILES rows of weights and of one token.
uint row_words[2 * ROW_TILES];
uint row_groups[2 * ROW_TILES];
#pragma unroll
for (int r = 0; r < 2 * ROW_TILES; r++) {
    const int tile = r / 2;
    // Past the end of its part: the last one again, not stored.
    const int in_part = min(first_output + 16 * (tile / PARTS) + 8 * (r % 2) + lane_row, part_rows - 1);
    const uint row = tile % PARTS * part_rows + in_part;
    row_words[r] = row * (uint(K) / 8) + quarter * WORDS;
    row_groups[r] = row * groups;
}
const uint token = min(first_token + (TOKENS == 1 ? 0 : lane_row), M - 1);
const uint own_x = token * K + quarter * (WORDS * 8);
// Always the mask. A compiler that knows so loads the constant again for every use; this stays in a register.
const uint mask = M > 0 ? FractionPair<T>::MASK : 0u;

TileA<T> ones;
#pragma unroll
for (int i = 0; i < 4; i++) {
    tile_set_pair(ones, i % 2, i / 2, two_of_16_bits<T>(1.0f, 1.0f));
}
float sums[4 * ROW_TILES];
#pragma unroll
for (int i = 0; i < 4 * ROW_TILES; i++) {
    sums[i] = 0.0f;
}
for (int first = own_simd * RUN; first < groups; first += SIMD_GROUPS * RUN) {
    // Everything that comes from far away is asked for before anything is used.
    uint words[RUN * 2 * ROW_TILES * WORDS];
    float scale[RUN * 2 * ROW_TILES];
    float offset[RUN * 2 * ROW_TILES];
    uint4 x8[RUN * WORDS];
    #pragma unroll
    for (int g = 0; g < RUN; g++) {
        #pragma unroll
        for (int r = 0; r < 2 * ROW_TILES; r++) {
            const uint start = row_words[r] + first * (GROUP_SIZE / 8);
            load_words<WORDS>(packed + start + g * (GROUP_SIZE / 8), words + (g * 2 * ROW_TILES + r) * WORDS);
        }
    }
    #pragma unroll
    for (int g = 0; g < RUN; g++) {
        #pragma unroll
        for (int w = 0; w < WORDS; w++) {
            const uint start = own_x + first * GROUP_SIZE;
            x8[g * WORDS + w] = *(const device uint4*)(x + start + (g * GROUP_SIZE + 8 * w));
        }
    }
    #pragma unroll
    for (int r = 0; r < 2 * ROW_TILES; r++) {
        load_neighbours<RUN>(scales + (row_groups[r] + first), scale + r * RUN);
        load_neighbours<RUN>(biases + (row_groups[r] + first), offset + r * RUN);
    }
    // Nothing is moved across: a compiler that saves registers would let later loads wait for earlier results.
    simdgroup_barrier(mem_flags::mem_none);
    #pragma unroll
    for (int g = 0; g < RUN; g++) {
        TileAcc products[ROW_TILES]; // Σ v * x
        TileAcc x_sums;              // Σ x, in every row
        tile_clear(x_sums);
        #pragma unroll
        for (int t = 0; t < ROW_TILES; t++) {
            tile_clear(products[t]);
        }
        #pragma unroll
        for (int w = 0; w < WORDS; w++) {
            const uint4 numbers = x8[g * WORDS + w];
            #pragma unroll
            for (int half_word = 0; half_word < 2; half_word++) {
                // Integers i and i + 4 of a word become a pair, so the same numbers of x must.
                const uint low = half_word == 0 ? numbers.x : numbers.y;
                const uint high = half_word == 0 ? numbers.z : numbers.w;
                TileB<T> b;
                tile_set_pair_transposed(b, 0, 0, lower_halves(low, high));
                tile_set_pair_transposed(b, 0, 1, upper_halves(low, high));
                tile_multiply_add_left(x_sums, ones, b);
                #pragma unroll
                for (int t = 0; t < ROW_TILES; t++) {
                    TileA<T> a;
                    #pragma unroll
                    for (int i = 0; i < 4; i++) {
                        const uint word = words[(g * 2 * ROW_TILES + 2 * t + i % 2) * WORDS + w];
                        tile_set_pair(a, i % 2, i / 2, one_plus_fraction_pair<T>(word, 2 * half_word + i / 2, mask));
                    }
                    tile_multiply_add_left(products[t], a, b);
                }
            }
        }
        #pragma unroll
        for (int i = 0; i < 4 * ROW_TILES; i++) {
            if (TOKENS > 1 || i % 2 == 0) {
                const int r = i / 2;
                const float x_sum = tile_value(x_sums, i % 2);
                const float integer_sum = 16.0f * (tile_value(products[i / 4], i % 4) - x_sum);
                sums[i] = fma(scale[r * RUN + g], integer_sum, fma(offset[r * RUN + g], x_sum, sums[i]));
            }
        }
    }
}
#pragma unroll
for (int i = 0; i < 4 * ROW_TILES; i++) {
    const int row = 8 * (i / 2) + lane_row;
    const int m = 2 * quarter + i % 2;
    if (m < TOKENS) {
        parts[(own_simd * TOKENS + m) * ROWS + row] = sums[i];
    }
}
threadgroup_barrier(mem_flags::mem_threadgroup);
for (int i = int(thread_index_in_threadgroup); i < TOKENS * OUTPUTS; i += 32 * SIMD_GROUPS) {
    const int own_token = i / OUTPUTS;
    const int own_output = i % OUTPUTS;
    const int m = first_token + own_token;
    const int n = first_output + own_output;
    if (m < M && n < part_rows) {
        float products[PARTS];
        #pragma unroll
        for (int part = 0; part < PARTS; part++) {
            const int row = 16 * (own_output / 16 * PARTS + part) + own_output % 16;
            products[part] = HAS_BIAS ? float(bias[part * part_rows + n]) : 0.0f;
            for (int simd = 0; simd < SIMD_GROUPS; simd++) {
                products[part] += parts[(simd * TOKENS + own_token) * ROWS + row];
            }
        }
        // Rounded where the plain layers round.
        const float result = GATED ? gated(float(T(products[0])), float(T(products[PARTS - 1]))) : products[0];
        out[size_t(m) * part_rows + n] = T(result);
    }
}
