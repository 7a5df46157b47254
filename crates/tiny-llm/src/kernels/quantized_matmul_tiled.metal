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
todo!("week 2 day 3 task 4: quantized_matmul_tiled - see book/src/week2/day3.md");
// [end]
