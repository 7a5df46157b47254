// Wide tiles. Apple's GPUs multiply 8x8 at a time from a SIMD group's registers, so four SIMD groups have nothing to gain from
// each other: each multiplies its own 16 rows, and a tile lies in memory row by row, 16 bytes apart to spread over banks.

#define WIDE_PADDING 8

// Where the 16 bytes at `column`, a multiple of 8, of `row` begin, in a tile of ROWS x COLUMNS.
template <int ROWS, int COLUMNS>
inline int wide_place(int row, int column) {
  return row * (COLUMNS + WIDE_PADDING) + column;
}

// Nothing is asynchronous here.
inline void wide_publish() {}
inline void wide_begin() {}
inline void wide_commit() {}
template <int N>
inline void wide_wait() {}

// sums [64, N] = 64 rows of left [ROWS, K] times the transpose of right [N, K]; this SIMD group's 16 rows begin at `own_row`.
template <int ROWS, int N, int K, typename T>
inline void wide_multiply_transposed(
    thread TileAcc (&sums)[N / 16], const threadgroup T* left, int own_row, const threadgroup T* right) {
#pragma unroll
  for (int n = 0; n < N / 16; ++n) tile_clear(sums[n]);
#pragma unroll
  for (int k = 0; k < K; k += 16) {
    TileA<T> a;
    tile_load(a, left + wide_place<ROWS, K>(own_row, k), K + WIDE_PADDING);
#pragma unroll
    for (int n = 0; n < N / 16; ++n) {
      TileB<T> b;
      tile_load_transposed(b, right + wide_place<N, K>(16 * n, k), K + WIDE_PADDING);
      tile_multiply_add(sums[n], a, b);
    }
  }
}

// sums [64, N] += left [64, K] * right [K, N]; of `left` and `sums` each SIMD group has its own 16 rows.
template <int K, int N, typename T>
inline void wide_multiply_add(thread TileAcc (&sums)[N / 16], const thread TileA<T> (&left)[K / 16], const threadgroup T* right) {
#pragma unroll
  for (int k = 0; k < K / 16; ++k) {
#pragma unroll
    for (int n = 0; n < N / 16; ++n) {
      TileB<T> b;
      tile_load(b, right + wide_place<K, N>(16 * k, 16 * n), N + WIDE_PADDING);
      tile_multiply_add(sums[n], left[k], b);
    }
  }
}
