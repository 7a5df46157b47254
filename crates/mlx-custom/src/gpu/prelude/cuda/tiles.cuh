// Matrix tiles of 16x16 on tensor cores.
//
// One `mma.sync.m16n8k16` multiplies 16x16 by 16x8, so a tile is two of them. How the elements of a tile are spread over the 32 lanes is set by
// the instruction (PTX ISA, "Matrix Fragments for mma.m16n8k16"): of the result, lane `l` owns rows `l / 4` and `l / 4 + 8`,
// and in each half of 8 columns the columns `2 * (l % 4)` and the next.
namespace mlx::core::cu {
namespace metal {

#define TILE_ROWS_PER_LANE 2
#define TILE_VALUES_PER_LANE 8

inline ushort tile_lane() {
  uint lane;
  asm("mov.u32 %0, %%laneid;" : "=r"(lane));
  return lane;
}

// The `i`-th row that this lane owns.
inline ushort tile_row_of(ushort i) { return tile_lane() / 4 + 8 * i; }

// Row and column of the `i`-th value that this lane owns.
inline ushort tile_value_row(ushort i) { return tile_row_of((i / 2) % 2); }
inline ushort tile_value_column(ushort i) { return 8 * (i / 4) + 2 * (tile_lane() % 4) + i % 2; }

// [16, 16] in float, spread over the SIMD group.
struct TileAcc {
  float values[TILE_VALUES_PER_LANE];
};

// The `i`-th value that this lane owns.
inline float& tile_value(TileAcc& acc, ushort i) { return acc.values[i]; }
inline float tile_value(const TileAcc& acc, ushort i) { return acc.values[i]; }

// For half and bfloat16_t: four registers of two elements each.
template <typename T>
struct TileA {
  uint pairs[4];
};
template <typename T>
struct TileB {
  uint pairs[4];
};

// In float there are no tensor cores without loss (TF32 has 10 bits of fraction). Values are spread over lanes as in TileAcc.
template <>
struct TileA<float> {
  float values[TILE_VALUES_PER_LANE];
};
// Lane `l` holds rows `2 * (l / 4)` and the next, of the four columns that it owns in the result.
template <>
struct TileB<float> {
  float values[2][4];
};

inline ushort tile_float_column(ushort i) { return 8 * (i / 2) + 2 * (tile_lane() % 4) + i % 2; }

// Four 8x8 matrices from threadgroup memory; each lane passes the address of one row of 16 bytes, aligned to 16.
inline void load_matrices(uint (&pairs)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(pairs[0]), "=r"(pairs[1]), "=r"(pairs[2]), "=r"(pairs[3])
               : "r"(uint(__cvta_generic_to_shared(row)))
               : "memory");
}
inline void load_matrices_transposed(uint (&pairs)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(pairs[0]), "=r"(pairs[1]), "=r"(pairs[2]), "=r"(pairs[3])
               : "r"(uint(__cvta_generic_to_shared(row)))
               : "memory");
}

// A[m][k], row-major at `p`.
template <typename T>
inline void tile_load(TileA<T>& a, const T* p, uint row_stride) {
  const ushort lane = tile_lane();
  load_matrices(a.pairs, p + (lane % 16) * row_stride + 8 * (lane / 16));
}

// B[k][n], row-major at `p`.
template <typename T>
inline void tile_load(TileB<T>& b, const T* p, uint row_stride) {
  const ushort lane = tile_lane();
  load_matrices_transposed(b.pairs, p + (lane % 16) * row_stride + 8 * (lane / 16));
}

// B[k][n], where memory holds [n][k] row-major at `p`.
template <typename T>
inline void tile_load_transposed(TileB<T>& b, const T* p, uint row_stride) {
  const ushort lane = tile_lane();
  load_matrices(b.pairs, p + (lane % 8 + 8 * (lane / 16)) * row_stride + 8 * ((lane / 8) % 2));
}

inline void tile_load(TileA<float>& a, const float* p, uint row_stride) {
#pragma unroll
  for (ushort i = 0; i < TILE_VALUES_PER_LANE; ++i) a.values[i] = p[tile_value_row(i) * row_stride + tile_value_column(i)];
}
inline void tile_load(TileB<float>& b, const float* p, uint row_stride) {
#pragma unroll
  for (ushort row = 0; row < 2; ++row)
#pragma unroll
    for (ushort i = 0; i < 4; ++i) b.values[row][i] = p[(2 * (tile_lane() / 4) + row) * row_stride + tile_float_column(i)];
}
inline void tile_load_transposed(TileB<float>& b, const float* p, uint row_stride) {
#pragma unroll
  for (ushort row = 0; row < 2; ++row)
#pragma unroll
    for (ushort i = 0; i < 4; ++i) b.values[row][i] = p[tile_float_column(i) * row_stride + 2 * (tile_lane() / 4) + row];
}

// Operands from registers, a pair of neighbours at a time. Of each quarter of 8x8 a lane owns one pair: of the left operand
// in row `tile_pair_row()`, columns `2 * tile_pair_column()` and the next; of the right operand's transpose likewise.
inline ushort tile_pair_row() { return tile_lane() / 4; }
inline ushort tile_pair_column() { return tile_lane() % 4; }

// A[8 * row_half + row][8 * column_half + 2 * column], and its right neighbour in the upper bits.
template <typename T>
inline void tile_set_pair(TileA<T>& a, ushort row_half, ushort column_half, uint pair) {
  a.pairs[row_half + 2 * column_half] = pair;
}

// B[8 * k_half + 2 * column][8 * n_half + row], and in the upper bits the number of the next k.
template <typename T>
inline void tile_set_pair_transposed(TileB<T>& b, ushort n_half, ushort k_half, uint pair) {
  b.pairs[2 * n_half + k_half] = pair;
}

inline void tile_clear(TileAcc& acc) {
#pragma unroll
  for (ushort i = 0; i < TILE_VALUES_PER_LANE; ++i) acc.values[i] = 0;
}

// c[16][8] += a[16][16] * b[16][8].
inline void multiply_add_half_tile(half, float* c, const uint (&a)[4], uint b0, uint b1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
inline void multiply_add_half_tile(bfloat16_t, float* c, const uint (&a)[4], uint b0, uint b1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// acc += a * b.
template <typename T>
inline void tile_multiply_add(TileAcc& acc, const TileA<T>& a, const TileB<T>& b) {
  multiply_add_half_tile(T(), acc.values, a.pairs, b.pairs[0], b.pairs[1]);
  multiply_add_half_tile(T(), acc.values + 4, a.pairs, b.pairs[2], b.pairs[3]);
}

// The same for the first 8 columns of `b` and `acc` alone; the others stay as they are.
template <typename T>
inline void tile_multiply_add_left(TileAcc& acc, const TileA<T>& a, const TileB<T>& b) {
  multiply_add_half_tile(T(), acc.values, a.pairs, b.pairs[0], b.pairs[1]);
}

inline void tile_multiply_add(TileAcc& acc, const TileA<float>& a, const TileB<float>& b) {
  const ushort lane = tile_lane();
#pragma unroll
  for (ushort k = 0; k < 16; ++k) {
    // Who holds A[row][k] for this lane's two rows, and B[k][column] for its four columns.
    const ushort a_lane = lane / 4 * 4 + (k % 8) / 2;
    const ushort b_lane = k / 2 * 4 + lane % 4;
    const float upper = simd_shuffle(a.values[4 * (k / 8) + k % 2], a_lane);
    const float lower = simd_shuffle(a.values[4 * (k / 8) + 2 + k % 2], a_lane);
#pragma unroll
    for (ushort i = 0; i < 4; ++i) {
      const float factor = simd_shuffle(b.values[k % 2][i], b_lane);
      const ushort at = 4 * (i / 2) + i % 2;
      acc.values[at] = fma(upper, factor, acc.values[at]);
      acc.values[at + 2] = fma(lower, factor, acc.values[at + 2]);
    }
  }
}

// Calls `f(row, column, value)` for every value that this lane owns; `f` may change it.
template <typename F>
inline void tile_for_each(TileAcc& acc, F f) {
  const ushort row = tile_value_row(0), column = tile_value_column(0);
#pragma unroll
  for (ushort i = 0; i < TILE_VALUES_PER_LANE; ++i)
    f(ushort(row + 8 * ((i / 2) % 2)), ushort(column + 8 * (i / 4) + i % 2), acc.values[i]);
}

// The same, and first which of this lane's rows it is: `f(i, row, column, value)` with `row == tile_row_of(i)`.
template <typename F>
inline void tile_for_each_of_row(TileAcc& acc, F f) {
#pragma unroll
  for (ushort i = 0; i < TILE_VALUES_PER_LANE; ++i)
    f(ushort((i / 2) % 2), tile_value_row(i), tile_value_column(i), acc.values[i]);
}

// Calls `f(row, column, left, right)` for pairs of neighbours: `right` is at `column + 1`, and `column` is even.
template <typename F>
inline void tile_for_each_pair(TileAcc& acc, F f) {
  const ushort row = tile_value_row(0), column = tile_value_column(0);
#pragma unroll
  for (ushort i = 0; i < TILE_VALUES_PER_LANE; i += 2)
    f(ushort(row + 8 * ((i / 2) % 2)), ushort(column + 8 * (i / 4)), acc.values[i], acc.values[i + 1]);
}

// The largest value of each row that this lane owns, over `N` tiles side by side.
template <int N>
inline void tile_row_max(const TileAcc (&tiles)[N], float* rows) {
#pragma unroll
  for (ushort row = 0; row < TILE_ROWS_PER_LANE; ++row) {
    float best = tiles[0].values[2 * row];
#pragma unroll
    for (int tile = 0; tile < N; ++tile) {
      const float* values = tiles[tile].values + 2 * row;
      best = max(max(best, max(values[0], values[1])), max(values[4], values[5]));
    }
    best = max(best, simd_shuffle_xor(best, 1));
    rows[row] = max(best, simd_shuffle_xor(best, 2));
  }
}

// The sum of each row that this lane owns, over `N` tiles side by side.
template <int N>
inline void tile_row_sum(const TileAcc (&tiles)[N], float* rows) {
#pragma unroll
  for (ushort row = 0; row < TILE_ROWS_PER_LANE; ++row) {
    float sum = 0;
#pragma unroll
    for (int tile = 0; tile < N; ++tile) {
      const float* values = tiles[tile].values + 2 * row;
      sum += (values[0] + values[1]) + (values[4] + values[5]);
    }
    sum += simd_shuffle_xor(sum, 1);
    rows[row] = sum + simd_shuffle_xor(sum, 2);
  }
}

inline void tile_row_max(const TileAcc& acc, float* rows) {
  tile_row_max(reinterpret_cast<const TileAcc(&)[1]>(acc), rows);
}
inline void tile_row_sum(const TileAcc& acc, float* rows) {
  tile_row_sum(reinterpret_cast<const TileAcc(&)[1]>(acc), rows);
}

// Multiplies row `tile_row_of(i)` by `factors[i]`.
inline void tile_scale_rows(TileAcc& acc, const float* factors) {
#pragma unroll
  for (ushort i = 0; i < TILE_VALUES_PER_LANE; ++i) acc.values[i] *= factors[(i / 2) % 2];
}

// The result of one product as the left operand of the next: each lane owns the same elements in both, so nothing moves.
inline void tile_acc_to_a(TileA<half>& a, const TileAcc& acc) {
#pragma unroll
  for (ushort i = 0; i < 4; ++i) a.pairs[i] = as_type<uint>(__floats2half2_rn(acc.values[2 * i], acc.values[2 * i + 1]));
}
inline void tile_acc_to_a(TileA<bfloat16_t>& a, const TileAcc& acc) {
#pragma unroll
  for (ushort i = 0; i < 4; ++i)
    a.pairs[i] = as_type<uint>(__floats2bfloat162_rn(acc.values[2 * i], acc.values[2 * i + 1]));
}
inline void tile_acc_to_a(TileA<float>& a, const TileAcc& acc) {
#pragma unroll
  for (ushort i = 0; i < TILE_VALUES_PER_LANE; ++i) a.values[i] = acc.values[i];
}

} // namespace metal
} // namespace mlx::core::cu
