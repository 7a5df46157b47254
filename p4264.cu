#include "mlx/backend/cuda/device/utils.cuh"
#include <cooperative_groups.h>
#define inf cuda::std::numeric_limits<float>::infinity()
// Metal's types in CUDA.
//
// MLX puts a kernel into the namespace mlx::core::cu. The names of Metal live in a namespace inside of it, so they are found before
// CUDA's own: `float4` is the one below, with arithmetic, not CUDA's plain structure.

// A pointer of CUDA may point anywhere, so the address spaces of pointers can go. Declarations of threadgroup memory have been
// rewritten before the preprocessor sees them.
#define device
#define constant
#define threadgroup
#define thread

#undef INFINITY
#undef NAN
#undef FLT_MAX
#define INFINITY __int_as_float(0x7f800000)
#define NAN __int_as_float(0x7fffffff)
#define MAXFLOAT 3.402823466e+38f
#define FLT_MAX MAXFLOAT
#define M_PI_F 3.14159265358979323846f

namespace mlx::core::cu {
namespace metal {

using half = __half;
using bfloat16_t = __nv_bfloat16;
using bfloat = __nv_bfloat16;
using uchar = unsigned char;
using ushort = unsigned short;
using uint = unsigned int;
using ulong = unsigned long;

template <typename T>
constexpr bool is_small_float = false;
template <>
constexpr bool is_small_float<half> = true;
template <>
constexpr bool is_small_float<bfloat16_t> = true;

// Arithmetic between half or bfloat16_t and float happens in float, with an integer in the small type, as in Metal.
#define TINY_MIXED(SMALL, OP) \
  inline float operator OP(SMALL a, float b) { return static_cast<float>(a) OP b; } \
  inline float operator OP(float a, SMALL b) { return a OP static_cast<float>(b); } \
  inline SMALL operator OP(SMALL a, int b) { return a OP static_cast<SMALL>(b); } \
  inline SMALL operator OP(int a, SMALL b) { return static_cast<SMALL>(a) OP b; } \
  inline SMALL operator OP(SMALL a, uint b) { return a OP static_cast<SMALL>(b); } \
  inline SMALL operator OP(uint a, SMALL b) { return static_cast<SMALL>(a) OP b; }
#define TINY_MIXED_COMPARE(SMALL, OP) \
  inline bool operator OP(SMALL a, float b) { return static_cast<float>(a) OP b; } \
  inline bool operator OP(float a, SMALL b) { return a OP static_cast<float>(b); }
#define TINY_MIXED_ASSIGN(SMALL, OP) \
  inline float& operator OP##=(float& a, SMALL b) { return a = a OP static_cast<float>(b); } \
  inline SMALL& operator OP##=(SMALL& a, float b) { return a = static_cast<SMALL>(static_cast<float>(a) OP b); }
#define TINY_MIXED_ALL(SMALL) \
  TINY_MIXED(SMALL, +) TINY_MIXED(SMALL, -) TINY_MIXED(SMALL, *) TINY_MIXED(SMALL, /) \
  TINY_MIXED_COMPARE(SMALL, <) TINY_MIXED_COMPARE(SMALL, >) TINY_MIXED_COMPARE(SMALL, <=) \
  TINY_MIXED_COMPARE(SMALL, >=) TINY_MIXED_COMPARE(SMALL, ==) TINY_MIXED_COMPARE(SMALL, !=) \
  TINY_MIXED_ASSIGN(SMALL, +) TINY_MIXED_ASSIGN(SMALL, -) TINY_MIXED_ASSIGN(SMALL, *) TINY_MIXED_ASSIGN(SMALL, /)
TINY_MIXED_ALL(half)
TINY_MIXED_ALL(bfloat16_t)
#undef TINY_MIXED_ALL
#undef TINY_MIXED_ASSIGN
#undef TINY_MIXED_COMPARE
#undef TINY_MIXED

template <typename T, int N>
struct vec_members;
template <typename T>
struct vec_members<T, 2> {
  T x, y;
};
template <typename T>
struct vec_members<T, 3> {
  T x, y, z;
};
template <typename T>
struct vec_members<T, 4> {
  T x, y, z, w;
};

// Aligned to its size, so that a load or store of a whole vector is one instruction. Three elements take the room of four.
template <typename T, int N>
struct alignas(sizeof(T) * (N == 3 ? 4 : N)) vec : vec_members<T, N> {
  vec() = default;
  vec(T value) {
    for (int i = 0; i < N; ++i) (*this)[i] = value;
  }
  template <typename U>
  explicit vec(const vec<U, N>& other) {
    for (int i = 0; i < N; ++i) (*this)[i] = static_cast<T>(other[i]);
  }
  template <typename A, typename B>
  vec(A x, B y) : vec_members<T, N>{static_cast<T>(x), static_cast<T>(y)} {
    static_assert(N == 2, "as many values as elements");
  }
  template <typename A, typename B, typename C>
  vec(A x, B y, C z) : vec_members<T, N>{static_cast<T>(x), static_cast<T>(y), static_cast<T>(z)} {
    static_assert(N == 3, "as many values as elements");
  }
  template <typename A, typename B, typename C, typename D>
  vec(A x, B y, C z, D w)
      : vec_members<T, N>{static_cast<T>(x), static_cast<T>(y), static_cast<T>(z), static_cast<T>(w)} {
    static_assert(N == 4, "as many values as elements");
  }
  T& operator[](int i) { return (&this->x)[i]; }
  const T& operator[](int i) const { return (&this->x)[i]; }
};

#define TINY_VECTOR_OPERATOR(OP) \
  template <typename T, int N> \
  inline vec<T, N> operator OP(vec<T, N> a, const vec<T, N>& b) { \
    for (int i = 0; i < N; ++i) a[i] = static_cast<T>(a[i] OP b[i]); \
    return a; \
  } \
  template <typename T, int N, typename S, typename = cuda::std::enable_if_t<cuda::std::is_convertible_v<S, T>>> \
  inline vec<T, N> operator OP(vec<T, N> a, S b) { \
    return a OP vec<T, N>(static_cast<T>(b)); \
  } \
  template <typename T, int N, typename S, typename = cuda::std::enable_if_t<cuda::std::is_convertible_v<S, T>>> \
  inline vec<T, N> operator OP(S a, const vec<T, N>& b) { \
    return vec<T, N>(static_cast<T>(a)) OP b; \
  } \
  template <typename T, int N, typename S> \
  inline vec<T, N>& operator OP##=(vec<T, N>& a, const S& b) { \
    return a = a OP b; \
  }
TINY_VECTOR_OPERATOR(+)
TINY_VECTOR_OPERATOR(-)
TINY_VECTOR_OPERATOR(*)
TINY_VECTOR_OPERATOR(/)
TINY_VECTOR_OPERATOR(%)
TINY_VECTOR_OPERATOR(&)
TINY_VECTOR_OPERATOR(|)
TINY_VECTOR_OPERATOR(^)
TINY_VECTOR_OPERATOR(<<)
TINY_VECTOR_OPERATOR(>>)
#undef TINY_VECTOR_OPERATOR

template <typename T, int N>
inline vec<T, N> operator-(vec<T, N> a) {
  for (int i = 0; i < N; ++i) a[i] = -a[i];
  return a;
}

#define TINY_VECTORS(T) \
  using T##2 = vec<T, 2>; \
  using T##3 = vec<T, 3>; \
  using T##4 = vec<T, 4>;
TINY_VECTORS(float)
TINY_VECTORS(half)
TINY_VECTORS(bfloat)
TINY_VECTORS(char)
TINY_VECTORS(uchar)
TINY_VECTORS(short)
TINY_VECTORS(ushort)
TINY_VECTORS(int)
TINY_VECTORS(uint)
#undef TINY_VECTORS

// The same bits as another type.
template <typename To, typename From>
inline To as_type(const From& from) {
  static_assert(sizeof(To) == sizeof(From), "as_type keeps the number of bits");
  To to;
  memcpy(&to, &from, sizeof(To));
  return to;
}

} // namespace metal
using namespace metal;
} // namespace mlx::core::cu
// Metal's functions on numbers. Those on half and bfloat16_t compute in float; those on vectors go element by element.
namespace mlx::core::cu {
namespace metal {

#define TINY_FUNCTION(NAME, EXPRESSION) \
  inline float NAME(float x) { return EXPRESSION; } \
  inline half NAME(half x) { return static_cast<half>(NAME(static_cast<float>(x))); } \
  inline bfloat16_t NAME(bfloat16_t x) { return static_cast<bfloat16_t>(NAME(static_cast<float>(x))); } \
  template <typename T, int N> \
  inline vec<T, N> NAME(vec<T, N> x) { \
    for (int i = 0; i < N; ++i) x[i] = NAME(x[i]); \
    return x; \
  }

namespace precise {
TINY_FUNCTION(exp, ::expf(x))
TINY_FUNCTION(exp2, ::exp2f(x))
TINY_FUNCTION(log, ::logf(x))
TINY_FUNCTION(log2, ::log2f(x))
TINY_FUNCTION(sin, ::sinf(x))
TINY_FUNCTION(cos, ::cosf(x))
TINY_FUNCTION(tanh, ::tanhf(x))
TINY_FUNCTION(sqrt, ::sqrtf(x))
TINY_FUNCTION(rsqrt, (1.0f / ::sqrtf(x)))
} // namespace precise

inline float approximate_exp2(float x) {
  float result;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x));
  return result;
}

namespace fast {
TINY_FUNCTION(exp, __expf(x))
TINY_FUNCTION(exp2, approximate_exp2(x))
TINY_FUNCTION(log, __logf(x))
TINY_FUNCTION(log2, __log2f(x))
TINY_FUNCTION(sin, __sinf(x))
TINY_FUNCTION(cos, __cosf(x))
TINY_FUNCTION(tanh, ::tanhf(x))
TINY_FUNCTION(sqrt, ::sqrtf(x))
TINY_FUNCTION(rsqrt, ::rsqrtf(x))
} // namespace fast

TINY_FUNCTION(exp, ::expf(x))
TINY_FUNCTION(exp2, ::exp2f(x))
TINY_FUNCTION(log, ::logf(x))
TINY_FUNCTION(log2, ::log2f(x))
TINY_FUNCTION(sin, ::sinf(x))
TINY_FUNCTION(cos, ::cosf(x))
TINY_FUNCTION(tanh, ::tanhf(x))
TINY_FUNCTION(sqrt, ::sqrtf(x))
TINY_FUNCTION(rsqrt, ::rsqrtf(x))
TINY_FUNCTION(floor, ::floorf(x))
TINY_FUNCTION(ceil, ::ceilf(x))
TINY_FUNCTION(trunc, ::truncf(x))
TINY_FUNCTION(round, ::roundf(x))
TINY_FUNCTION(rint, ::rintf(x))
TINY_FUNCTION(fabs, ::fabsf(x))
#undef TINY_FUNCTION

template <typename T>
inline T abs(T x) {
  if constexpr (cuda::std::is_same_v<T, float> || is_small_float<T>) {
    return fabs(x);
  } else {
    return x < T(0) ? -x : x;
  }
}

template <typename T>
inline T max(T a, T b) {
  if constexpr (cuda::std::is_same_v<T, float>) {
    return ::fmaxf(a, b);
  } else if constexpr (is_small_float<T>) {
    return __hmax(a, b);
  } else {
    return a < b ? b : a;
  }
}

template <typename T>
inline T min(T a, T b) {
  if constexpr (cuda::std::is_same_v<T, float>) {
    return ::fminf(a, b);
  } else if constexpr (is_small_float<T>) {
    return __hmin(a, b);
  } else {
    return b < a ? b : a;
  }
}

template <typename T, int N>
inline vec<T, N> max(vec<T, N> a, vec<T, N> b) {
  for (int i = 0; i < N; ++i) a[i] = max(a[i], b[i]);
  return a;
}

template <typename T, int N>
inline vec<T, N> min(vec<T, N> a, vec<T, N> b) {
  for (int i = 0; i < N; ++i) a[i] = min(a[i], b[i]);
  return a;
}

template <typename T>
inline T fmax(T a, T b) {
  return max(a, b);
}

template <typename T>
inline T fmin(T a, T b) {
  return min(a, b);
}

template <typename T>
inline T clamp(T x, T low, T high) {
  return min(max(x, low), high);
}

inline float fma(float a, float b, float c) { return ::fmaf(a, b, c); }
inline half fma(half a, half b, half c) { return __hfma(a, b, c); }
inline bfloat16_t fma(bfloat16_t a, bfloat16_t b, bfloat16_t c) { return __hfma(a, b, c); }
template <typename T, int N>
inline vec<T, N> fma(vec<T, N> a, const vec<T, N>& b, const vec<T, N>& c) {
  for (int i = 0; i < N; ++i) a[i] = fma(a[i], b[i], c[i]);
  return a;
}

inline float pow(float x, float y) { return ::powf(x, y); }

template <typename T, int N>
inline T dot(const vec<T, N>& a, const vec<T, N>& b) {
  T sum = a[0] * b[0];
  for (int i = 1; i < N; ++i) sum = fma(a[i], b[i], sum);
  return sum;
}

// `condition ? b : a`: the order is Metal's.
template <typename T>
inline T select(T a, T b, bool condition) {
  return condition ? b : a;
}

template <typename T>
inline bool isnan(T x) {
  return static_cast<float>(x) != static_cast<float>(x);
}

template <typename T>
inline bool isinf(T x) {
  return ::fabsf(static_cast<float>(x)) == INFINITY;
}

template <typename T>
inline bool isfinite(T x) {
  return ::fabsf(static_cast<float>(x)) < INFINITY;
}

inline uint popcount(uint x) { return __popc(x); }
inline uint clz(uint x) { return __clz(x); }

} // namespace metal
} // namespace mlx::core::cu
// SIMD groups are warps: both have 32 threads. All 32 take part in each function.
namespace mlx::core::cu {
namespace metal {

enum class mem_flags { mem_none = 0, mem_device = 1, mem_threadgroup = 2, mem_device_and_threadgroup = 3 };
inline mem_flags operator|(mem_flags a, mem_flags b) {
  return static_cast<mem_flags>(static_cast<int>(a) | static_cast<int>(b));
}

// Both order device memory and threadgroup memory alike, whatever the flags.
inline void threadgroup_barrier(mem_flags) { __syncthreads(); }
inline void simdgroup_barrier(mem_flags) { __syncwarp(); }

constexpr uint all_lanes = 0xffffffff;

// Moves a value of any size between lanes, in words of 32 bits; `move` moves one word.
template <typename T, typename Move>
inline T move_words(const T& value, Move move) {
  if constexpr (sizeof(T) < 4) {
    uint word = 0;
    memcpy(&word, &value, sizeof(T));
    word = move(word);
    T result;
    memcpy(&result, &word, sizeof(T));
    return result;
  } else {
    static_assert(sizeof(T) % 4 == 0, "values of 1, 2, 4, 8, ... bytes");
    uint words[sizeof(T) / 4];
    memcpy(words, &value, sizeof(T));
    for (int i = 0; i < int(sizeof(T) / 4); ++i) words[i] = move(words[i]);
    T result;
    memcpy(&result, words, sizeof(T));
    return result;
  }
}

template <typename T>
inline T simd_shuffle(T value, ushort lane) {
  return move_words(value, [=](uint word) { return __shfl_sync(all_lanes, word, lane); });
}

template <typename T>
inline T simd_broadcast(T value, ushort lane) {
  return simd_shuffle(value, lane);
}

template <typename T>
inline T simd_broadcast_first(T value) {
  return simd_shuffle(value, 0);
}

template <typename T>
inline T simd_shuffle_xor(T value, ushort mask) {
  return move_words(value, [=](uint word) { return __shfl_xor_sync(all_lanes, word, mask); });
}

template <typename T>
inline T simd_shuffle_down(T value, ushort distance) {
  return move_words(value, [=](uint word) { return __shfl_down_sync(all_lanes, word, distance); });
}

template <typename T>
inline T simd_shuffle_up(T value, ushort distance) {
  return move_words(value, [=](uint word) { return __shfl_up_sync(all_lanes, word, distance); });
}

// Every lane gets the result, in the same order of additions.
template <typename T>
inline T simd_sum(T value) {
  if constexpr (is_small_float<T>) {
    return static_cast<T>(simd_sum(static_cast<float>(value)));
  } else {
    for (ushort mask = 16; mask > 0; mask /= 2) value += simd_shuffle_xor(value, mask);
    return value;
  }
}

template <typename T>
inline T simd_max(T value) {
  for (ushort mask = 16; mask > 0; mask /= 2) value = max(value, simd_shuffle_xor(value, mask));
  return value;
}

template <typename T>
inline T simd_min(T value) {
  for (ushort mask = 16; mask > 0; mask /= 2) value = min(value, simd_shuffle_xor(value, mask));
  return value;
}

inline bool simd_any(bool value) { return __any_sync(all_lanes, value); }
inline bool simd_all(bool value) { return __all_sync(all_lanes, value); }

// Copies 16 bytes, aligned to 16, into threadgroup memory while the thread goes on (`cp.async`).
inline void async_copy16(void* to, const void* from) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(uint(__cvta_generic_to_shared(to))), "l"(from)
               : "memory");
}

// The same if `valid`; otherwise writes zeros and reads nothing.
inline void async_copy16(void* to, const void* from, bool valid) {
  const int bytes = valid ? 16 : 0;
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(uint(__cvta_generic_to_shared(to))), "l"(from),
               "r"(bytes)
               : "memory");
}

// Closes a group of copies: all since the last commit.
inline void async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }

// Waits until at most `N` of this thread's groups are under way. A barrier makes the bytes visible to other threads.
template <int N>
inline void async_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
}

} // namespace metal
} // namespace mlx::core::cu
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

#define thread_position_in_grid (metal::uint3(blockIdx.x*blockDim.x+threadIdx.x, blockIdx.y*blockDim.y+threadIdx.y, blockIdx.z*blockDim.z+threadIdx.z))
#define threadgroup_position_in_grid (blockIdx)
#define threadgroups_per_grid (gridDim)
#define thread_index_in_threadgroup (threadIdx.x)
#define thread_index_in_simdgroup (threadIdx.x%32)
#define simdgroup_index_in_threadgroup (threadIdx.x/32)
namespace mlx::core::cu {
// Functions for the attention kernels: which row is which query, and 16 bytes of a row at a time.

/// Where a maximum starts. It is finite, so that `exp2(score - maximum)` is 0 and not NaN for a score of minus infinity
/// when nothing has been visible yet.
constant constexpr float LOWEST = -3.4028234663852886e38f;
constant constexpr float LOG2_E = 1.4426950408889634f;

inline uint bits_of(half number) {
    return uint(as_type<ushort>(number));
}

inline uint bits_of(bfloat16_t number) {
    return uint(as_type<ushort>(number));
}

/// Whether a lane may take 16 bytes of any row of `[B, H, N, D]` at once: D is contiguous, rows begin at multiples of
/// 16 bytes.
template <typename T, typename Strides>
inline bool has_wide_rows(const device T* start, Strides strides) {
    const long wide = 16 / long(sizeof(T));
    return strides[3] == 1 && ulong(start) % 16 == 0 && strides[0] % wide == 0 && strides[1] % wide == 0 &&
           strides[2] % wide == 0;
}

/// 16 bytes of a row from `from` on: 4 numbers of f32, 8 of the others, `stride` apart unless `is_wide`.
template <typename T>
inline uint4 load_wide(const device T* from, long stride, bool is_wide) {
    if (is_wide) {
        return *(const device uint4*)(from);
    }
    return uint4(
        bits_of(from[0]) | bits_of(from[stride]) << 16,
        bits_of(from[2 * stride]) | bits_of(from[3 * stride]) << 16,
        bits_of(from[4 * stride]) | bits_of(from[5 * stride]) << 16,
        bits_of(from[6 * stride]) | bits_of(from[7 * stride]) << 16);
}

template <>
inline uint4 load_wide<float>(const device float* from, long stride, bool is_wide) {
    if (is_wide) {
        return *(const device uint4*)(from);
    }
    return uint4(
        as_type<uint>(from[0]),
        as_type<uint>(from[stride]),
        as_type<uint>(from[2 * stride]),
        as_type<uint>(from[3 * stride]));
}

/// The numbers in two halves of a word. The third argument only says which type they have.
inline void widen(uint word, thread float* numbers, half) {
    numbers[0] = float(as_type<half>(ushort(word & 0xffff)));
    numbers[1] = float(as_type<half>(ushort(word >> 16)));
}

/// bfloat16 is the upper half of a float.
inline void widen(uint word, thread float* numbers, bfloat16_t) {
    numbers[0] = as_type<float>(word << 16);
    numbers[1] = as_type<float>(word & 0xffff0000u);
}

/// The `16 / sizeof(T)` numbers in 16 bytes, as f32.
template <typename T>
inline void unpack_wide(uint4 words, thread float* numbers) {
    widen(words.x, numbers, T());
    widen(words.y, numbers + 2, T());
    widen(words.z, numbers + 4, T());
    widen(words.w, numbers + 6, T());
}

template <>
inline void unpack_wide<float>(uint4 words, thread float* numbers) {
    numbers[0] = as_type<float>(words.x);
    numbers[1] = as_type<float>(words.y);
    numbers[2] = as_type<float>(words.z);
    numbers[3] = as_type<float>(words.w);
}
// Functions for attention on matrix tiles: rows on their way to threadgroup memory, and softmax over the rows of tiles.

/// Rows of a tile in threadgroup memory begin 16 bytes further than they would have to: the rows that a SIMD group reads
/// at the same time then lie in different banks.
constant constexpr int PADDING = 8;

/// Starts to copy `ROWS` rows of D numbers to threadgroup memory, each `D + PADDING` behind the one before. Rows from
/// `n_rows` on become 0. All `THREADS` threads of the threadgroup take part.
template <typename T, int D, int ROWS, int THREADS>
inline void load_rows(
    threadgroup T* to, const device T* from, long row_stride, long stride, int n_rows, bool is_wide, int thread_index) {
    constexpr int WIDE = 16 / sizeof(T);
    constexpr int PARTS = D / WIDE;
    for (int index = thread_index; index < ROWS * PARTS; index += THREADS) {
        const int row = index / PARTS;
        const int part = index % PARTS;
        threadgroup T* place = to + row * (D + PADDING) + part * WIDE;
        const device T* source = from + row * row_stride + part * WIDE * stride;
        if (row < n_rows && is_wide) {
            async_copy16(place, source);
        } else {
            for (int i = 0; i < WIDE; ++i) {
                place[i] = row < n_rows ? source[i * stride] : T(0.0f);
            }
        }
    }
}

/// Hides the keys that a row does not see: row r sees `n_visible + r * more_each_row` columns.
struct HideKeys {
    int n_visible;
    int more_each_row;
    inline void operator()(ushort row, ushort column, thread float& score) const {
        if (int(column) >= n_visible + int(row) * more_each_row) {
            score = -INFINITY;
        }
    }
};

/// `exp2(score * scale - largest)`, where `largest` is each row's own, already scaled.
struct ScoresToWeights {
    const thread float* largest;
    float scale;
    inline void operator()(ushort row_of_lane, ushort row, ushort column, thread float& score) const {
        score = fast::exp2(score * scale - largest[row_of_lane]);
    }
};

/// Writes `number / sum` of the first `n_rows` rows to device memory.
template <typename T>
struct WriteAnswer {
    device T* to;
    long row_stride;
    int n_rows;
    const thread float* sums;
    inline void operator()(ushort row_of_lane, ushort row, ushort column, thread float& number) const {
        if (row < n_rows) {
            to[row * row_stride + column] = T(number / sums[row_of_lane]);
        }
    }
};
}
namespace mlx::core::cu {
namespace cg = cooperative_groups;
__global__ void custom_kernel_x(const __nv_bfloat16* query, const __grid_constant__ Shape query_shape, const __grid_constant__ Strides query_strides, const __nv_bfloat16* key, const __grid_constant__ Shape key_shape, const __grid_constant__ Strides key_strides, const __nv_bfloat16* value, const __grid_constant__ Shape value_shape, const __grid_constant__ Strides value_strides, __nv_bfloat16* out) {
using T = __nv_bfloat16;
constexpr int D = 128;
constexpr int KEYS = 64;
constexpr int SIMD_GROUPS = 4;
constexpr int ROW_TILES = 2;
constexpr bool CAUSAL = true;
constexpr int SCALE_BITS = 1035273459;
// FlashAttention-2: a threadgroup takes a tile of queries of one head over the keys, one tile of keys at a time, on the
// matrix units. Queries, keys and values are in threadgroup memory, where all its SIMD groups read them; each SIMD group
// has ROW_TILES times 16 queries of its own, whose scores and answers are in its registers.
//
// - query `[B, H_q, L, D]`, key and value `[B, H_kv, S, D]`, out `[B, H_q, L, D]`
// - template: T, half or bfloat16_t; D, a multiple of 16; KEYS of a tile, a multiple of 16; SIMD_GROUPS; ROW_TILES; CAUSAL;
//   SCALE_BITS, the scale as the bits of a positive float
// - threadgroups: x the query head, y the tile of queries, z the batch row
constexpr int OWN_ROWS = ROW_TILES * 16;
constexpr int ROWS = SIMD_GROUPS * OWN_ROWS;
constexpr int THREADS = SIMD_GROUPS * 32;
constexpr int STRIDE = D + PADDING;
constexpr int HEAD_TILES = D / 16;
constexpr int KEY_TILES = KEYS / 16;
const float scale = as_type<float>(SCALE_BITS) * LOG2_E;
const int query_len = query_shape[2];
const int key_len = key_shape[2];
const int head = threadgroup_position_in_grid.x;
const int kv_head = head / (query_shape[1] / key_shape[1]);
const int batch = threadgroup_position_in_grid.z;
// Under a causal mask the last tiles have most to do: they begin first.
const int first_query = (threadgroups_per_grid.y - 1 - threadgroup_position_in_grid.y) * ROWS;
const int thread_index = thread_index_in_threadgroup;
const int own_row = OWN_ROWS * simdgroup_index_in_threadgroup; // of the threadgroup's rows, this SIMD group's first
const int n_rows = min(ROWS, query_len - first_query);
const int n_own_rows = min(OWN_ROWS, n_rows - own_row); // 0 or less: this SIMD group only helps loading

__shared__ alignas(16) T query_tile[ROWS * STRIDE];
__shared__ alignas(16) T key_tile[KEYS * STRIDE];
__shared__ alignas(16) T value_tile[KEYS * STRIDE];

const device T* queries = query + batch * query_strides[0] + head * query_strides[1] + first_query * query_strides[2];
const device T* keys = key + batch * key_strides[0] + kv_head * key_strides[1];
const device T* values = value + batch * value_strides[0] + kv_head * value_strides[1];
const bool queries_are_wide = has_wide_rows(query, query_strides);
const bool keys_are_wide = has_wide_rows(key, key_strides);
const bool values_are_wide = has_wide_rows(value, value_strides);

// [task 2.5.4] attention_prefill
TileAcc accumulator[ROW_TILES][HEAD_TILES];
// Of the rows that this lane owns.
float max_score[ROW_TILES][TILE_ROWS_PER_LANE];
float sum[ROW_TILES][TILE_ROWS_PER_LANE];
for (int m = 0; m < ROW_TILES; ++m) {
    for (int d = 0; d < HEAD_TILES; ++d) {
        tile_clear(accumulator[m][d]);
    }
    for (int i = 0; i < TILE_ROWS_PER_LANE; ++i) {
        max_score[m][i] = LOWEST;
        sum[m][i] = 0.0f;
    }
}

// How many keys the first query of this SIMD group sees; each further one sees one more, under a causal mask.
const int first_visible = CAUSAL ? first_query + own_row + (key_len - query_len) + 1 : key_len;
// Up to where anybody in this SIMD group, and in the threadgroup, sees anything.
const int own_end = n_own_rows <= 0 ? 0 : (CAUSAL ? first_visible + n_own_rows - 1 : key_len);
const int end = CAUSAL ? first_query + n_rows + (key_len - query_len) : key_len;

load_rows<T, D, ROWS, THREADS>(
    query_tile, queries, query_strides[2], query_strides[3], n_rows, queries_are_wide, thread_index);
load_rows<T, D, KEYS, THREADS>(
    key_tile, keys, key_strides[2], key_strides[3], key_len, keys_are_wide, thread_index);
async_commit();
for (int first = 0; first < end; first += KEYS) {
    // The keys are here, and nobody works with the values of the tile before any more.
    async_wait<0>();
    threadgroup_barrier(mem_flags::mem_threadgroup);
    load_rows<T, D, KEYS, THREADS>(
        value_tile, values + first * value_strides[2], value_strides[2], value_strides[3], key_len - first,
        values_are_wide, thread_index);
    async_commit();

    const bool sees_something = first < own_end;
    TileA<T> weights[ROW_TILES][KEY_TILES];
    if (sees_something) {
        TileAcc scores[ROW_TILES][KEY_TILES];
        for (int m = 0; m < ROW_TILES; ++m) {
            for (int t = 0; t < KEY_TILES; ++t) {
                tile_clear(scores[m][t]);
            }
        }
        for (int d = 0; d < HEAD_TILES; ++d) {
            TileA<T> query_part[ROW_TILES];
            for (int m = 0; m < ROW_TILES; ++m) {
                tile_load(query_part[m], query_tile + (own_row + 16 * m) * STRIDE + 16 * d, STRIDE);
            }
            for (int t = 0; t < KEY_TILES; ++t) {
                // Loaded once for all row tiles.
                TileB<T> key_part;
                tile_load_transposed(key_part, key_tile + 16 * t * STRIDE + 16 * d, STRIDE);
                for (int m = 0; m < ROW_TILES; ++m) {
                    tile_multiply_add(scores[m][t], query_part[m], key_part);
                }
            }
        }
        // Only tiles on the diagonal, and the last one, have keys that somebody doesn't see.
        if (first + KEYS > min(first_visible, key_len)) {
            for (int m = 0; m < ROW_TILES; ++m) {
                for (int t = 0; t < KEY_TILES; ++t) {
                    const int n_visible = first_visible + (CAUSAL ? 16 * m : 0) - first - 16 * t;
                    tile_for_each(scores[m][t], HideKeys{n_visible, CAUSAL ? 1 : 0});
                }
            }
        }
        // The online softmax of day 2.4, for 16 rows at once.
        for (int m = 0; m < ROW_TILES; ++m) {
            float largest[TILE_ROWS_PER_LANE];
            float keep[TILE_ROWS_PER_LANE];
            float tile_sum[TILE_ROWS_PER_LANE];
            tile_row_max(scores[m], largest);
            for (int i = 0; i < TILE_ROWS_PER_LANE; ++i) {
                const float new_max = max(max_score[m][i], largest[i]);
                keep[i] = fast::exp2((max_score[m][i] - new_max) * scale);
                max_score[m][i] = new_max;
                largest[i] = max(new_max * scale, LOWEST); // finite also if nothing is visible yet
            }
            for (int d = 0; d < HEAD_TILES; ++d) {
                tile_scale_rows(accumulator[m][d], keep);
            }
            for (int t = 0; t < KEY_TILES; ++t) {
                tile_for_each_of_row(scores[m][t], ScoresToWeights{largest, scale});
                tile_acc_to_a(weights[m][t], scores[m][t]);
            }
            tile_row_sum(scores[m], tile_sum);
            for (int i = 0; i < TILE_ROWS_PER_LANE; ++i) {
                sum[m][i] = sum[m][i] * keep[i] + tile_sum[i];
            }
        }
    }

    // The values are here, and nobody works with the keys any more.
    async_wait<0>();
    threadgroup_barrier(mem_flags::mem_threadgroup);
    if (first + KEYS < end) {
        const int next = first + KEYS;
        load_rows<T, D, KEYS, THREADS>(
            key_tile, keys + next * key_strides[2], key_strides[2], key_strides[3], key_len - next, keys_are_wide,
            thread_index);
    }
    async_commit();
    if (sees_something) {
        for (int t = 0; t < KEY_TILES; ++t) {
            for (int d = 0; d < HEAD_TILES; ++d) {
                TileB<T> value_part;
                tile_load(value_part, value_tile + 16 * t * STRIDE + 16 * d, STRIDE);
                for (int m = 0; m < ROW_TILES; ++m) {
                    tile_multiply_add(accumulator[m][d], weights[m][t], value_part);
                }
            }
        }
    }
}

device T* answer = out + ((long(batch) * query_shape[1] + head) * query_len + first_query + own_row) * D;
for (int m = 0; m < ROW_TILES; ++m) {
    for (int d = 0; d < HEAD_TILES; ++d) {
        tile_for_each_of_row(
            accumulator[m][d], WriteAnswer<T>{answer + 16 * m * D + 16 * d, D, n_own_rows - 16 * m, sum[m]});
    }
}
// [end]

}}
