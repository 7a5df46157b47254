// Wide tiles: four SIMD groups multiply together.
//
// GPUs of compute capability 9.0 have `wgmma` for it (PTX ISA, "Asynchronous Warpgroup Level Matrix Instructions"): 64 rows, of
// which each SIMD group has 16, times a right operand that the matrix units read from threadgroup memory by themselves. The
// result is spread over lanes as in TileAcc. Older and newer GPUs don't know the instruction: there each SIMD group multiplies
// its own rows with the tiles of 16x16, as on Metal. So which code is compiled decides how tiles lie in memory, too.
namespace mlx::core::cu {
namespace metal {

#define WIDE_PADDING 8

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

// Where the 16 bytes at `column`, a multiple of 8, of `row` begin, in a tile of ROWS x COLUMNS.
//
// Blocks of 64 columns (128 bytes) lie one behind the other, each row by row. In row r the eight pieces of 16 bytes stand in the
// order piece ^ (r % 8), so that eight rows of one column lie in different banks ("128-byte swizzle"). The hardware takes r from the
// address: a tile begins at a multiple of 1024 bytes.
template <int ROWS, int COLUMNS>
inline int wide_place(int row, int column) {
  static_assert(ROWS % 8 == 0 && COLUMNS % 64 == 0, "wide tiles have a multiple of 8 rows and of 64 columns");
  return column / 64 * (ROWS * 64) + row * 64 + ((column % 64 / 8) ^ (row % 8)) * 8;
}

// What this thread has written to threadgroup memory is for the matrix units too; then a barrier.
inline void wide_publish() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }
// In front of products, whose registers other instructions have written.
inline void wide_begin() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
// Closes a group of products: all since the last commit.
inline void wide_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
// Waits until at most `N` groups are under way.
template <int N>
inline void wide_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(N) : "memory");
}

// How the instruction is told of a tile: the address in units of 16 bytes; in units of 16 bytes, too, the distance of blocks of
// columns (used where rows are k) and that of eight rows, 1024 bytes; and the swizzle.
inline ulong wide_descriptor(const void* tile, uint block_bytes) {
  const ulong address = uint(__cvta_generic_to_shared(tile));
  return (address & 0x3FFFF) >> 4 | ulong(block_bytes >> 4) << 16 | ulong(1024 >> 4) << 32 | 1ull << 62;
}

// The registers of N / 16 tiles as operands, and their names in the instruction.
#define WIDE_SUMS(TILE) \
  "+f"(sums[TILE].values[0]), "+f"(sums[TILE].values[1]), "+f"(sums[TILE].values[2]), "+f"(sums[TILE].values[3]), \
      "+f"(sums[TILE].values[4]), "+f"(sums[TILE].values[5]), "+f"(sums[TILE].values[6]), "+f"(sums[TILE].values[7])
#define WIDE_SUMS_64 WIDE_SUMS(0), WIDE_SUMS(1), WIDE_SUMS(2), WIDE_SUMS(3)
#define WIDE_SUMS_128 WIDE_SUMS_64, WIDE_SUMS(4), WIDE_SUMS(5), WIDE_SUMS(6), WIDE_SUMS(7)
#define WIDE_REGISTERS_64 \
  "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, " \
  "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31}"
#define WIDE_REGISTERS_128 \
  "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, " \
  "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, " \
  "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, " \
  "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63}"

// sums [64, N] = left [64, 16] * right [16, N], plus the old sums if `keep`, for one type, with the left operand in memory and in registers.
// R0 to R4 are the names of the operands behind the sums.
#define WIDE_PRODUCTS(T, TYPE, N, R0, R1, R2, R3, R4) \
  inline void wide_product(T, TileAcc(&sums)[N / 16], ulong left, ulong right, int keep) { \
    asm volatile("{ .reg .pred keep; setp.ne.b32 keep, " R2 ", 0; wgmma.mma_async.sync.aligned.m64n" #N "k16.f32." TYPE "." TYPE \
                 " " WIDE_REGISTERS_##N ", " R0 ", " R1 ", keep, 1, 1, 0, 0; }" \
                 : WIDE_SUMS_##N \
                 : "l"(left), "l"(right), "r"(keep)); \
  } \
  inline void wide_product(T, TileAcc(&sums)[N / 16], const uint(&left)[4], ulong right) { \
    asm volatile("{ .reg .pred keep; setp.ne.b32 keep, 1, 0; wgmma.mma_async.sync.aligned.m64n" #N "k16.f32." TYPE "." TYPE \
                 " " WIDE_REGISTERS_##N ", {" R0 ", " R1 ", " R2 ", " R3 "}, " R4 ", keep, 1, 1, 1; }" \
                 : WIDE_SUMS_##N \
                 : "r"(left[0]), "r"(left[1]), "r"(left[2]), "r"(left[3]), "l"(right)); \
  }
WIDE_PRODUCTS(half, "f16", 64, "%32", "%33", "%34", "%35", "%36")
WIDE_PRODUCTS(half, "f16", 128, "%64", "%65", "%66", "%67", "%68")
WIDE_PRODUCTS(bfloat16_t, "bf16", 64, "%32", "%33", "%34", "%35", "%36")
WIDE_PRODUCTS(bfloat16_t, "bf16", 128, "%64", "%65", "%66", "%67", "%68")

// sums [64, N] = 64 rows of left [ROWS, K] times the transpose of right [N, K]; this SIMD group's 16 rows begin at `own_row`.
template <int ROWS, int N, int K, typename T>
inline void wide_multiply_transposed(TileAcc (&sums)[N / 16], const T* left, int own_row, const T* right) {
  const ulong left_start = wide_descriptor(left + own_row / 64 * (64 * 64), 16);
  const ulong right_start = wide_descriptor(right, 16);
#pragma unroll
  for (int k = 0; k < K; k += 16) {
    // Eight numbers are a unit of an address. The swizzle applies to the sum.
    const ulong left_part = left_start + (k / 64 * (ROWS * 64) + k % 64) / 8;
    const ulong right_part = right_start + (k / 64 * (N * 64) + k % 64) / 8;
    wide_product(T(), sums, left_part, right_part, k > 0);
  }
}

// sums [64, N] += left [64, K] * right [K, N]; of `left` and `sums` each SIMD group has its own 16 rows.
template <int K, int N, typename T>
inline void wide_multiply_add(TileAcc (&sums)[N / 16], const TileA<T> (&left)[K / 16], const T* right) {
  const ulong right_start = wide_descriptor(right, K * 128);
#pragma unroll
  for (int k = 0; k < K / 16; ++k) wide_product(T(), sums, left[k].pairs, right_start + 16 * k * 64 / 8);
}

#else

// As on Metal: row by row, 16 bytes apart to spread over banks.
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

template <int ROWS, int N, int K, typename T>
inline void wide_multiply_transposed(TileAcc (&sums)[N / 16], const T* left, int own_row, const T* right) {
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

template <int K, int N, typename T>
inline void wide_multiply_add(TileAcc (&sums)[N / 16], const TileA<T> (&left)[K / 16], const T* right) {
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

#endif

} // namespace metal
} // namespace mlx::core::cu
