// Matrix tiles of 16x16, owned by a SIMD group: lane l holds columns 8 * (l % 2) to 8 * (l % 2) + 7 of row l / 2.
//
// Products are computed in float by the last lane to arrive, for all of them: 16-bit numbers times each other are exact in
// float, and the sums are rounded to float, as in the matrix units of GPUs.

namespace emu {

template <typename T>
struct Tile {
  float values[8];  // converted from T, which is exact
};

struct PairReduction {
  float value;
};

// Each lane has reduced its half of a row; the two lanes of a row put theirs together.
template <typename Op>
EMU_UNWATCHED void reduce_pairs(void* const* lanes, uint32_t n_lanes) {
  for (uint32_t i = 0; i + 1 < n_lanes; i += 2) {
    auto *left = static_cast<PairReduction*>(lanes[i]), *right = static_cast<PairReduction*>(lanes[i + 1]);
    left->value = right->value = Op::apply(left->value, right->value);
  }
}

// The access was announced to the runtime as a whole.
template <typename T>
EMU_UNWATCHED __attribute__((noinline)) void load_row(float* to, const T* from, uint32_t step) {
  for (int i = 0; i < 8; ++i) to[i] = float(from[i * step]);
}

}  // namespace emu

template <typename T>
struct TileA : emu::Tile<T> {};
template <typename T>
struct TileB : emu::Tile<T> {};
struct TileAcc {
  float values[8];
};

constexpr ushort TILE_ROWS_PER_LANE = 1;
constexpr ushort TILE_VALUES_PER_LANE = 8;

// The row of the `i`-th of a lane's rows.
EMU_INLINE ushort tile_row_of(ushort i) { return ushort(i + emu::emu_lane() / 2); }

// A[m][k], row-major.
template <typename T>
EMU_INLINE void tile_load(TileA<T>& tile, const T* p, uint row_stride) {
  const uint lane = emu::emu_lane();
  const T* from = p + lane / 2 * row_stride + lane % 2 * 8;
  emu_read(from, 8 * sizeof(T));
  emu::load_row(tile.values, from, 1);
}

// B[k][n], row-major.
template <typename T>
EMU_INLINE void tile_load(TileB<T>& tile, const T* p, uint row_stride) {
  const uint lane = emu::emu_lane();
  const T* from = p + lane / 2 * row_stride + lane % 2 * 8;
  emu_read(from, 8 * sizeof(T));
  emu::load_row(tile.values, from, 1);
}

// The memory holds the transpose of B: [n][k], row-major.
template <typename T>
EMU_INLINE void tile_load_transposed(TileB<T>& tile, const T* p, uint row_stride) {
  const uint lane = emu::emu_lane();
  const T* from = p + lane % 2 * 8 * row_stride + lane / 2;
  for (uint i = 0; i < 8; ++i) emu_read(from + i * row_stride, sizeof(T));
  emu::load_row(tile.values, from, row_stride);
}

EMU_INLINE void tile_clear(TileAcc& sums) {
  for (int i = 0; i < 8; ++i) sums.values[i] = 0.0f;
}

template <typename T>
EMU_INLINE void tile_multiply_add(TileAcc& sums, const TileA<T>& a, const TileB<T>& b, EMU_PLACE) {
  emu::TileProduct mine{a.values, b.values, sums.values};
  emu_simd_operation(&mine, emu_tile_multiply_add, file, line);
}

template <typename F>
EMU_INLINE void tile_for_each(TileAcc& sums, F f) {
  const uint lane = emu::emu_lane();
  for (uint i = 0; i < 8; ++i) f(ushort(lane / 2), ushort(lane % 2 * 8 + i), sums.values[i]);
}

// The same, and first which of this lane's rows it is.
template <typename F>
EMU_INLINE void tile_for_each_of_row(TileAcc& sums, F f) {
  const uint lane = emu::emu_lane();
  for (uint i = 0; i < 8; ++i) f(ushort(0), ushort(lane / 2), ushort(lane % 2 * 8 + i), sums.values[i]);
}

// Calls `f(row, column, left, right)` for pairs of neighbours.
template <typename F>
EMU_INLINE void tile_for_each_pair(TileAcc& sums, F f) {
  const uint lane = emu::emu_lane();
  for (uint i = 0; i < 8; i += 2) f(ushort(lane / 2), ushort(lane % 2 * 8 + i), sums.values[i], sums.values[i + 1]);
}

// Over `N` tiles side by side.
template <int N>
EMU_INLINE void tile_row_max(const TileAcc (&tiles)[N], float* rows, EMU_PLACE) {
  emu::PairReduction mine{tiles[0].values[0]};
  for (int tile = 0; tile < N; ++tile)
    for (int i = 0; i < 8; ++i) mine.value = metal::max(mine.value, tiles[tile].values[i]);
  emu_simd_operation(&mine, emu::reduce_pairs<emu::Max>, file, line);
  rows[0] = mine.value;
}

template <int N>
EMU_INLINE void tile_row_sum(const TileAcc (&tiles)[N], float* rows, EMU_PLACE) {
  emu::PairReduction mine{0.0f};
  for (int tile = 0; tile < N; ++tile)
    for (int i = 0; i < 8; ++i) mine.value += tiles[tile].values[i];
  emu_simd_operation(&mine, emu::reduce_pairs<emu::Sum>, file, line);
  rows[0] = mine.value;
}

EMU_INLINE void tile_row_max(const TileAcc& sums, float* rows, EMU_PLACE) {
  emu::PairReduction mine{sums.values[0]};
  for (int i = 1; i < 8; ++i) mine.value = metal::max(mine.value, sums.values[i]);
  emu_simd_operation(&mine, emu::reduce_pairs<emu::Max>, file, line);
  rows[0] = mine.value;
}

EMU_INLINE void tile_row_sum(const TileAcc& sums, float* rows, EMU_PLACE) {
  emu::PairReduction mine{sums.values[0]};
  for (int i = 1; i < 8; ++i) mine.value += sums.values[i];
  emu_simd_operation(&mine, emu::reduce_pairs<emu::Sum>, file, line);
  rows[0] = mine.value;
}

EMU_INLINE void tile_scale_rows(TileAcc& sums, const float* factors) {
  for (int i = 0; i < 8; ++i) sums.values[i] *= factors[0];
}

// Rounds to T: the sums become the left operand of the next product.
template <typename T>
EMU_INLINE void tile_acc_to_a(TileA<T>& a, const TileAcc& sums) {
  for (int i = 0; i < 8; ++i) a.values[i] = float(T(sums.values[i]));
}
