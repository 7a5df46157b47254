// out [M, N] = a [M, K] times b, which is [K, N] or, if TRANSPOSED, [N, K]. One SIMD group per threadgroup, and 16x32 of
// the result for each; M, N and K are multiples of 16, 32 and 32.
constexpr int A_STRIDE = 32 + 8; // 8: rows begin in different banks, and still at multiples of 16 bytes
constexpr int B_STRIDE = 32 + 8;
threadgroup T a_tile[16 * A_STRIDE];
threadgroup T b_tile[32 * B_STRIDE];
const uint lane = thread_index_in_simdgroup;
const uint first_row = threadgroup_position_in_grid.y * 16;
const uint first_column = threadgroup_position_in_grid.x * 32;
TileAcc acc[2];
tile_clear(acc[0]);
tile_clear(acc[1]);
for (uint k = 0; k < K; k += 32) {
  for (uint i = lane; i < 16 * 32; i += 32) {
    a_tile[(i / 32) * A_STRIDE + i % 32] = a[(first_row + i / 32) * K + k + i % 32];
  }
  for (uint i = lane; i < 32 * 32; i += 32) {
    const uint row = i / 32;
    const uint column = i % 32;
    b_tile[row * B_STRIDE + column] =
        TRANSPOSED ? b[(first_column + row) * K + k + column] : b[(k + row) * N + first_column + column];
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
  for (uint part = 0; part < 32; part += 16) {
    TileA<T> left;
    tile_load(left, a_tile + part, A_STRIDE);
    for (uint half_width = 0; half_width < 2; half_width++) {
      TileB<T> right;
      if (TRANSPOSED) {
        tile_load_transposed(right, b_tile + 16 * half_width * B_STRIDE + part, B_STRIDE);
      } else {
        tile_load(right, b_tile + part * B_STRIDE + 16 * half_width, B_STRIDE);
      }
      tile_multiply_add(acc[half_width], left, right);
    }
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
}
for (uint half_width = 0; half_width < 2; half_width++) {
  tile_for_each(acc[half_width], [&](ushort row, ushort column, thread float& value) {
    out[(first_row + row) * N + first_column + 16 * half_width + column] = T(value);
  });
}
