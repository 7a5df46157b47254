// Wide tiles: products of four SIMD groups. Here, as on Metal, each multiplies its own 16 rows at once, when it is asked to.
//
// On the newest GPUs of NVIDIA a product goes on by itself from `wide_commit` to `wide_wait`, and threadgroup memory is in an
// order of the hardware. What the emulator sees is where the accesses begin; that sums are used too early it can't see.

constexpr int WIDE_PADDING = 8;

// Where the 16 bytes at `column`, a multiple of 8, of `row` begin, in a tile of ROWS x COLUMNS.
template <int ROWS, int COLUMNS>
EMU_INLINE int wide_place(int row, int column) {
  return row * (COLUMNS + WIDE_PADDING) + column;
}

EMU_INLINE void wide_publish() {}
EMU_INLINE void wide_begin() {}
EMU_INLINE void wide_commit() {}
template <int N>
EMU_INLINE void wide_wait() {}

// sums [64, N] = 64 rows of left [ROWS, K] times the transpose of right [N, K]; this SIMD group's 16 rows begin at `own_row`.
template <int ROWS, int N, int K, typename T>
EMU_INLINE void wide_multiply_transposed(TileAcc (&sums)[N / 16], const T* left, int own_row, const T* right, EMU_PLACE) {
  for (int n = 0; n < N / 16; ++n) tile_clear(sums[n]);
  for (int k = 0; k < K; k += 16) {
    TileA<T> a;
    tile_load(a, left + wide_place<ROWS, K>(own_row, k), K + WIDE_PADDING);
    for (int n = 0; n < N / 16; ++n) {
      TileB<T> b;
      tile_load_transposed(b, right + wide_place<N, K>(16 * n, k), K + WIDE_PADDING);
      tile_multiply_add(sums[n], a, b, file, line);
    }
  }
}

// sums [64, N] += left [64, K] * right [K, N]; of `left` and `sums` each SIMD group has its own 16 rows.
template <int K, int N, typename T>
EMU_INLINE void wide_multiply_add(TileAcc (&sums)[N / 16], const TileA<T> (&left)[K / 16], const T* right, EMU_PLACE) {
  for (int k = 0; k < K / 16; ++k) {
    for (int n = 0; n < N / 16; ++n) {
      TileB<T> b;
      tile_load(b, right + wide_place<K, N>(16 * k, 16 * n), N + WIDE_PADDING);
      tile_multiply_add(sums[n], left[k], b, file, line);
    }
  }
}
