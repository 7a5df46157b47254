// Matrix tiles of 16x16: four simdgroup_matrix of 8x8 each.
//
// Of an 8x8 matrix each of the 32 lanes holds two neighbours in a row. Which ones, Apple doesn't document; MLX relies on
// this order: the row is (lane / 4 & 4) + lane / 2 % 4, the first column (lane / 4 & 2) * 2 + lane % 2 * 2.

#define TILE_ROWS_PER_LANE 2
#define TILE_VALUES_PER_LANE 8

// A function can't ask for its lane, but it can count the lanes before it. All 32 take part in every tile function.
inline ushort tile_lane() { return simd_prefix_exclusive_sum(ushort(1)); }

// The `i`-th row that this lane owns.
inline ushort tile_row_of(ushort i) {
  const ushort lane = tile_lane();
  return (lane / 4 & 4) + lane / 2 % 4 + 8 * i;
}

// Row and column of the `i`-th value that this lane owns.
inline ushort tile_value_row(ushort i) { return tile_row_of(i / 2 % 2); }
inline ushort tile_value_column(ushort i) {
  const ushort lane = tile_lane();
  return 8 * (i / 4) + (lane / 4 & 2) * 2 + lane % 2 * 2 + i % 2;
}

// quarters[row half][column half].
template <typename T>
struct TileA {
  simdgroup_matrix<T, 8, 8> quarters[2][2];
};
template <typename T>
struct TileB {
  simdgroup_matrix<T, 8, 8> quarters[2][2];
};
struct TileAcc {
  simdgroup_matrix<float, 8, 8> quarters[2][2];
};

inline thread float& tile_value(thread TileAcc& acc, ushort i) {
  return reinterpret_cast<thread float*>(&acc.quarters[i / 2 % 2][i / 4].thread_elements())[i % 2];
}
inline float tile_value(const thread TileAcc& acc, ushort i) {
  return acc.quarters[i / 2 % 2][i / 4].thread_elements()[i % 2];
}

// A[m][k], row-major at `p`.
template <typename T>
inline void tile_load(thread TileA<T>& a, const threadgroup T* p, uint row_stride) {
#pragma unroll
  for (ushort row = 0; row < 2; ++row)
#pragma unroll
    for (ushort column = 0; column < 2; ++column)
      simdgroup_load(a.quarters[row][column], p + 8 * row * row_stride + 8 * column, row_stride);
}

// B[k][n], row-major at `p`.
template <typename T>
inline void tile_load(thread TileB<T>& b, const threadgroup T* p, uint row_stride) {
#pragma unroll
  for (ushort row = 0; row < 2; ++row)
#pragma unroll
    for (ushort column = 0; column < 2; ++column)
      simdgroup_load(b.quarters[row][column], p + 8 * row * row_stride + 8 * column, row_stride);
}

// B[k][n], where memory holds [n][k] row-major at `p`.
template <typename T>
inline void tile_load_transposed(thread TileB<T>& b, const threadgroup T* p, uint row_stride) {
#pragma unroll
  for (ushort row = 0; row < 2; ++row)
#pragma unroll
    for (ushort column = 0; column < 2; ++column)
      simdgroup_load(b.quarters[row][column], p + 8 * column * row_stride + 8 * row, row_stride, ulong2(0, 0), true);
}

// Operands from registers, a pair of neighbours at a time. Of each quarter of 8x8 a lane owns one pair: of the left operand
// in row `tile_pair_row()`, columns `2 * tile_pair_column()` and the next; of the right operand's transpose likewise.
inline ushort tile_pair_row() { return tile_row_of(0); }
inline ushort tile_pair_column() {
  const ushort lane = tile_lane();
  return (lane / 4 & 2) + lane % 2;
}

// A[8 * row_half + row][8 * column_half + 2 * column], and its right neighbour in the upper bits.
template <typename T>
inline void tile_set_pair(thread TileA<T>& a, ushort row_half, ushort column_half, uint pair) {
  a.quarters[row_half][column_half].thread_elements() = as_type<vec<T, 2>>(pair);
}

// B[8 * k_half + 2 * column][8 * n_half + row], and in the upper bits the number of the next k.
//
// Here a lane holds two neighbours along n of one k, so it takes them from the lanes that own the pairs of these two rows.
template <typename T>
inline void tile_set_pair_transposed(thread TileB<T>& b, ushort n_half, ushort k_half, uint pair) {
  const ushort k = tile_pair_row(), n = 2 * tile_pair_column();
  vec<T, 2> numbers;
#pragma unroll
  for (ushort i = 0; i < 2; ++i) {
    // The lane whose row is n + i and whose column is k / 2.
    const ushort row = n + i, column = k / 2;
    const ushort owner = (row & 4) * 4 + (column & 2) * 4 + row % 4 * 2 + column % 2;
    const uint other = simd_shuffle(pair, owner);
    numbers[i] = as_type<T>(ushort(k % 2 == 0 ? other : other >> 16));
  }
  b.quarters[k_half][n_half].thread_elements() = numbers;
}

inline void tile_clear(thread TileAcc& acc) {
#pragma unroll
  for (ushort row = 0; row < 2; ++row)
#pragma unroll
    for (ushort column = 0; column < 2; ++column) acc.quarters[row][column] = make_filled_simdgroup_matrix<float, 8, 8>(0.0f);
}

// acc += a * b.
template <typename T>
inline void tile_multiply_add(thread TileAcc& acc, const thread TileA<T>& a, const thread TileB<T>& b) {
#pragma unroll
  for (ushort k = 0; k < 2; ++k)
#pragma unroll
    for (ushort row = 0; row < 2; ++row)
#pragma unroll
      for (ushort column = 0; column < 2; ++column)
        simdgroup_multiply_accumulate(
            acc.quarters[row][column], a.quarters[row][k], b.quarters[k][column], acc.quarters[row][column]);
}

// The same for the first 8 columns of `b` and `acc` alone; the others stay as they are.
template <typename T>
inline void tile_multiply_add_left(thread TileAcc& acc, const thread TileA<T>& a, const thread TileB<T>& b) {
#pragma unroll
  for (ushort k = 0; k < 2; ++k)
#pragma unroll
    for (ushort row = 0; row < 2; ++row)
      simdgroup_multiply_accumulate(acc.quarters[row][0], a.quarters[row][k], b.quarters[k][0], acc.quarters[row][0]);
}

// Calls `f(row, column, value)` for every value that this lane owns; `f` may change it. A lambda needs Metal 3.2 (macOS 15).
template <typename F>
inline void tile_for_each(thread TileAcc& acc, F f) {
  const ushort row = tile_value_row(0), column = tile_value_column(0);
#pragma unroll
  for (ushort i = 0; i < TILE_VALUES_PER_LANE; ++i)
    f(ushort(row + 8 * (i / 2 % 2)), ushort(column + 8 * (i / 4) + i % 2), tile_value(acc, i));
}

// The same, and first which of this lane's rows it is: `f(i, row, column, value)` with `row == tile_row_of(i)`.
template <typename F>
inline void tile_for_each_of_row(thread TileAcc& acc, F f) {
  const ushort row = tile_value_row(0), column = tile_value_column(0);
#pragma unroll
  for (ushort i = 0; i < TILE_VALUES_PER_LANE; ++i)
    f(ushort(i / 2 % 2), ushort(row + 8 * (i / 2 % 2)), ushort(column + 8 * (i / 4) + i % 2), tile_value(acc, i));
}

// Calls `f(row, column, left, right)` for pairs of neighbours: `right` is at `column + 1`, and `column` is even.
template <typename F>
inline void tile_for_each_pair(thread TileAcc& acc, F f) {
  const ushort row = tile_value_row(0), column = tile_value_column(0);
#pragma unroll
  for (ushort i = 0; i < TILE_VALUES_PER_LANE; i += 2)
    f(ushort(row + 8 * (i / 2 % 2)), ushort(column + 8 * (i / 4)), tile_value(acc, i), tile_value(acc, i + 1));
}

// The largest value of each row that this lane owns, over `N` tiles side by side. Lanes with the same row differ in bits 0 and 3.
template <int N>
inline void tile_row_max(const thread TileAcc (&tiles)[N], thread float* rows) {
#pragma unroll
  for (ushort row = 0; row < TILE_ROWS_PER_LANE; ++row) {
    float best = tile_value(tiles[0], 2 * row);
#pragma unroll
    for (int tile = 0; tile < N; ++tile) {
      const float left = max(tile_value(tiles[tile], 2 * row), tile_value(tiles[tile], 2 * row + 1));
      const float right = max(tile_value(tiles[tile], 2 * row + 4), tile_value(tiles[tile], 2 * row + 5));
      best = max(best, max(left, right));
    }
    best = max(best, simd_shuffle_xor(best, 1));
    rows[row] = max(best, simd_shuffle_xor(best, 8));
  }
}

// The sum of each row that this lane owns, over `N` tiles side by side.
template <int N>
inline void tile_row_sum(const thread TileAcc (&tiles)[N], thread float* rows) {
#pragma unroll
  for (ushort row = 0; row < TILE_ROWS_PER_LANE; ++row) {
    float sum = 0;
#pragma unroll
    for (int tile = 0; tile < N; ++tile) {
      sum += tile_value(tiles[tile], 2 * row) + tile_value(tiles[tile], 2 * row + 1);
      sum += tile_value(tiles[tile], 2 * row + 4) + tile_value(tiles[tile], 2 * row + 5);
    }
    sum += simd_shuffle_xor(sum, 1);
    rows[row] = sum + simd_shuffle_xor(sum, 8);
  }
}

inline void tile_row_max(const thread TileAcc& acc, thread float* rows) {
  tile_row_max(reinterpret_cast<const thread TileAcc(&)[1]>(acc), rows);
}
inline void tile_row_sum(const thread TileAcc& acc, thread float* rows) {
  tile_row_sum(reinterpret_cast<const thread TileAcc(&)[1]>(acc), rows);
}

// Multiplies row `tile_row_of(i)` by `factors[i]`.
inline void tile_scale_rows(thread TileAcc& acc, const thread float* factors) {
#pragma unroll
  for (ushort i = 0; i < TILE_VALUES_PER_LANE; ++i) tile_value(acc, i) *= factors[i / 2 % 2];
}

// The result of one product as the left operand of the next: each lane holds the same elements in both.
template <typename T>
inline void tile_acc_to_a(thread TileA<T>& a, const thread TileAcc& acc) {
#pragma unroll
  for (ushort row = 0; row < 2; ++row)
#pragma unroll
    for (ushort column = 0; column < 2; ++column)
#pragma unroll
      for (ushort i = 0; i < 2; ++i)
        a.quarters[row][column].thread_elements()[i] = T(acc.quarters[row][column].thread_elements()[i]);
}
