// Matrix tiles of 16x16, owned by a SIMD group. A lane holds 8 numbers of each, in the order of NVIDIA's matrix units (abi.h).
//
// Products are computed in float by the last lane to arrive, for all of them: 16-bit numbers times each other are exact in
// float, and the sums are rounded to float, as in the matrix units of GPUs.

namespace emu {

template <typename T>
struct Tile {
  float values[8];  // converted from T, which is exact
};

struct RowReduction {
  float values[2];
};

// Each lane has reduced its part of two rows; the four lanes of a row put theirs together.
template <typename Op>
EMU_UNWATCHED void reduce_rows(void* const* lanes, uint32_t n_lanes) {
  for (uint32_t first = 0; first + 3 < n_lanes; first += 4) {
    for (int row = 0; row < 2; ++row) {
      float result = static_cast<RowReduction*>(lanes[first])->values[row];
      for (uint32_t i = 1; i < 4; ++i)
        result = Op::apply(result, static_cast<RowReduction*>(lanes[first + i])->values[row]);
      for (uint32_t i = 0; i < 4; ++i) static_cast<RowReduction*>(lanes[first + i])->values[row] = result;
    }
  }
}

// The access is announced to the runtime here, and not seen by the compiler.
template <typename T>
EMU_UNWATCHED __attribute__((noinline)) void load_numbers(float* to, const T* from, uint32_t step, int n) {
  if (step == 1) {
    emu_read(from, n * sizeof(T));
  } else {
    for (int i = 0; i < n; ++i) emu_read(from + i * step, sizeof(T));
  }
  for (int i = 0; i < n; ++i) to[i] = float(from[i * step]);
}

}  // namespace emu

template <typename T>
struct TileA : emu::Tile<T> {};
template <typename T>
struct TileB : emu::Tile<T> {};
struct TileAcc {
  float values[8];
};

constexpr ushort TILE_ROWS_PER_LANE = 2;
constexpr ushort TILE_VALUES_PER_LANE = 8;

// The row of the `i`-th of a lane's rows.
EMU_INLINE ushort tile_row_of(ushort i) { return ushort(emu::emu_lane() / 4 + 8 * i); }

// The `i`-th value that this lane owns.
EMU_INLINE float& tile_value(TileAcc& sums, ushort i) { return sums.values[i]; }
EMU_INLINE float tile_value(const TileAcc& sums, ushort i) { return sums.values[i]; }

// A[m][k], row-major.
template <typename T>
EMU_INLINE void tile_load(TileA<T>& tile, const T* p, uint row_stride) {
  const uint lane = emu::emu_lane();
  for (uint i = 0; i < 8; i += 2)
    emu::load_numbers(tile.values + i, p + emu::tile_row(lane, i) * row_stride + emu::tile_column(lane, i), 1, 2);
}

// B[k][n], row-major.
template <typename T>
EMU_INLINE void tile_load(TileB<T>& tile, const T* p, uint row_stride) {
  const uint lane = emu::emu_lane();
  for (uint i = 0; i < 8; i += 2)
    emu::load_numbers(
        tile.values + i, p + emu::tile_depth(lane, i) * row_stride + emu::tile_width(lane, i), row_stride, 2);
}

// The memory holds the transpose of B: [n][k], row-major.
template <typename T>
EMU_INLINE void tile_load_transposed(TileB<T>& tile, const T* p, uint row_stride) {
  const uint lane = emu::emu_lane();
  for (uint i = 0; i < 8; i += 2)
    emu::load_numbers(tile.values + i, p + emu::tile_width(lane, i) * row_stride + emu::tile_depth(lane, i), 1, 2);
}

// Operands from registers, a pair of neighbours at a time, in quarters of 8x8: of the left operand in row `tile_pair_row()`,
// columns `2 * tile_pair_column()` and the next; of the right operand's transpose likewise.
EMU_INLINE ushort tile_pair_row() { return ushort(emu::emu_lane() / 4); }
EMU_INLINE ushort tile_pair_column() { return ushort(emu::emu_lane() % 4); }

template <typename T>
EMU_INLINE void tile_set_pair(TileA<T>& a, ushort row_half, ushort column_half, uint pair) {
  float* to = a.values + 4 * column_half + 2 * row_half;
  to[0] = float(as_type<T>(ushort(pair))), to[1] = float(as_type<T>(ushort(pair >> 16)));
}

template <typename T>
EMU_INLINE void tile_set_pair_transposed(TileB<T>& b, ushort n_half, ushort k_half, uint pair) {
  float* to = b.values + 4 * n_half + 2 * k_half;
  to[0] = float(as_type<T>(ushort(pair))), to[1] = float(as_type<T>(ushort(pair >> 16)));
}

EMU_INLINE void tile_clear(TileAcc& sums) {
  for (int i = 0; i < 8; ++i) sums.values[i] = 0.0f;
}

template <typename T>
EMU_INLINE void tile_multiply_add(TileAcc& sums, const TileA<T>& a, const TileB<T>& b, EMU_PLACE) {
  emu::TileProduct mine{a.values, b.values, sums.values};
  emu_simd_operation(&mine, emu_tile_multiply_add, file, line);
}

// The same for the first 8 columns of `b` and `sums` alone; the others stay as they are.
template <typename T>
EMU_INLINE void tile_multiply_add_left(TileAcc& sums, const TileA<T>& a, const TileB<T>& b, EMU_PLACE) {
  TileB<T> left;
  for (int i = 0; i < 8; ++i) left.values[i] = i < 4 ? b.values[i] : 0.0f;
  TileAcc all = sums;
  emu::TileProduct mine{a.values, left.values, all.values};
  emu_simd_operation(&mine, emu_tile_multiply_add, file, line);
  for (int i = 0; i < 4; ++i) sums.values[i] = all.values[i];
}

template <typename F>
EMU_INLINE void tile_for_each(TileAcc& sums, F f) {
  const uint lane = emu::emu_lane();
  for (uint i = 0; i < 8; ++i) f(ushort(emu::tile_row(lane, i)), ushort(emu::tile_column(lane, i)), sums.values[i]);
}

// The same, and first which of this lane's rows it is.
template <typename F>
EMU_INLINE void tile_for_each_of_row(TileAcc& sums, F f) {
  const uint lane = emu::emu_lane();
  for (uint i = 0; i < 8; ++i)
    f(ushort(i / 2 % 2), ushort(emu::tile_row(lane, i)), ushort(emu::tile_column(lane, i)), sums.values[i]);
}

// Calls `f(row, column, left, right)` for pairs of neighbours.
template <typename F>
EMU_INLINE void tile_for_each_pair(TileAcc& sums, F f) {
  const uint lane = emu::emu_lane();
  for (uint i = 0; i < 8; i += 2)
    f(ushort(emu::tile_row(lane, i)), ushort(emu::tile_column(lane, i)), sums.values[i], sums.values[i + 1]);
}

// Over `N` tiles side by side.
template <int N>
EMU_INLINE void tile_row_max(const TileAcc (&tiles)[N], float* rows, EMU_PLACE) {
  emu::RowReduction mine{{tiles[0].values[0], tiles[0].values[2]}};
  for (int tile = 0; tile < N; ++tile)
    for (int i = 0; i < 8; ++i) mine.values[i / 2 % 2] = metal::max(mine.values[i / 2 % 2], tiles[tile].values[i]);
  emu_simd_operation(&mine, emu::reduce_rows<emu::Max>, file, line);
  rows[0] = mine.values[0], rows[1] = mine.values[1];
}

template <int N>
EMU_INLINE void tile_row_sum(const TileAcc (&tiles)[N], float* rows, EMU_PLACE) {
  emu::RowReduction mine{{0.0f, 0.0f}};
  for (int tile = 0; tile < N; ++tile)
    for (int i = 0; i < 8; ++i) mine.values[i / 2 % 2] += tiles[tile].values[i];
  emu_simd_operation(&mine, emu::reduce_rows<emu::Sum>, file, line);
  rows[0] = mine.values[0], rows[1] = mine.values[1];
}

EMU_INLINE void tile_row_max(const TileAcc& sums, float* rows, EMU_PLACE) {
  tile_row_max(reinterpret_cast<const TileAcc(&)[1]>(sums), rows, file, line);
}

EMU_INLINE void tile_row_sum(const TileAcc& sums, float* rows, EMU_PLACE) {
  tile_row_sum(reinterpret_cast<const TileAcc(&)[1]>(sums), rows, file, line);
}

EMU_INLINE void tile_scale_rows(TileAcc& sums, const float* factors) {
  for (int i = 0; i < 8; ++i) sums.values[i] *= factors[i / 2 % 2];
}

// Rounds to T: the sums become the left operand of the next product.
template <typename T>
EMU_INLINE void tile_acc_to_a(TileA<T>& a, const TileAcc& sums) {
  for (int i = 0; i < 8; ++i) a.values[i] = float(T(sums.values[i]));
}
