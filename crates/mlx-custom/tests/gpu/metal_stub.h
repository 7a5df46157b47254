// A stub of Metal for clang's type checker: names and address spaces, nothing that could run.
//
// `thread` is the default address space. A body is compiled once, with T = float and the arrays below; bfloat16_t is a type of its own
// (`double`), for only types matter here.
#define device __attribute__((address_space(1)))
#define constant __attribute__((address_space(2)))
#define threadgroup __attribute__((address_space(3)))
#define thread

#define INFINITY __builtin_inff()

using uchar = unsigned char;
using ushort = unsigned short;
using uint = unsigned int;
using ulong = unsigned long;
using size_t = unsigned long;
using half = _Float16;
using bfloat16_t = double;

template <typename T, int N>
using vec = T __attribute__((ext_vector_type(N)));
#define VECTORS(NAME, T) \
  using NAME##2 = vec<T, 2>; \
  using NAME##3 = vec<T, 3>; \
  using NAME##4 = vec<T, 4>; \
  template <typename... Values> \
  NAME##2 make_##NAME##2(Values...); \
  template <typename... Values> \
  NAME##3 make_##NAME##3(Values...); \
  template <typename... Values> \
  NAME##4 make_##NAME##4(Values...);
VECTORS(float, float)
VECTORS(half, half)
VECTORS(bfloat, bfloat16_t)
VECTORS(int, int)
VECTORS(uint, uint)
VECTORS(ushort, ushort)
VECTORS(uchar, uchar)
// clang has no constructors of vectors from several values.
#define float2(...) make_float2(__VA_ARGS__)
#define float4(...) make_float4(__VA_ARGS__)
#define half2(...) make_half2(__VA_ARGS__)
#define half4(...) make_half4(__VA_ARGS__)
#define bfloat4(...) make_bfloat4(__VA_ARGS__)
#define int4(...) make_int4(__VA_ARGS__)
#define uint2(...) make_uint2(__VA_ARGS__)
#define uint4(...) make_uint4(__VA_ARGS__)
#define ushort4(...) make_ushort4(__VA_ARGS__)

template <typename To, typename From>
To as_type(From);

namespace metal {
#define UNARY(NAME) \
  template <typename T> \
  T NAME(T);
#define UNARY_ALL UNARY(exp) UNARY(exp2) UNARY(log) UNARY(log2) UNARY(sin) UNARY(cos) UNARY(sqrt) UNARY(rsqrt) UNARY(tanh)
UNARY_ALL
UNARY(floor) UNARY(ceil) UNARY(round) UNARY(abs)
namespace fast { UNARY_ALL }
namespace precise { UNARY_ALL }
template <typename T> T max(T, T);
template <typename T> T min(T, T);
template <typename T> T clamp(T, T, T);
template <typename T> T fma(T, T, T);
template <typename T> T select(T, T, bool);
template <typename T> float dot(T, T);
template <typename T> bool isnan(T);
template <typename T> bool isinf(T);
}  // namespace metal
using namespace metal;

enum class mem_flags { mem_none, mem_device, mem_threadgroup };
void threadgroup_barrier(mem_flags);
void simdgroup_barrier(mem_flags);
UNARY(simd_sum) UNARY(simd_max) UNARY(simd_min) UNARY(simd_broadcast_first)
template <typename T> T simd_shuffle(T, ushort);
template <typename T> T simd_shuffle_xor(T, ushort);
template <typename T> T simd_shuffle_down(T, ushort);
template <typename T> T simd_shuffle_up(T, ushort);
template <typename T> T simd_broadcast(T, ushort);
bool simd_any(bool);
bool simd_all(bool);

uint load_streamed(const device uint*);
uint2 load_streamed(const device uint2*);
uint4 load_streamed(const device uint4*);
void async_copy16(threadgroup void*, const device void*);
void async_copy16(threadgroup void*, const device void*, bool);
void async_commit();
template <int N> void async_wait();

constexpr ushort TILE_ROWS_PER_LANE = 2;
constexpr ushort TILE_VALUES_PER_LANE = 8;
template <typename T> struct TileA {};
template <typename T> struct TileB {};
struct TileAcc {};
template <typename T> void tile_load(thread TileA<T>&, const threadgroup T*, ushort);
template <typename T> void tile_load(thread TileB<T>&, const threadgroup T*, ushort);
template <typename T> void tile_load_transposed(thread TileB<T>&, const threadgroup T*, ushort);
void tile_clear(thread TileAcc&);
template <typename T> void tile_multiply_add(thread TileAcc&, const thread TileA<T>&, const thread TileB<T>&);
inline thread float& any_value() { static float value; return value; }
template <typename F> void tile_for_each(thread TileAcc&, F f) { f(ushort(), ushort(), any_value()); }
template <typename F> void tile_for_each_of_row(thread TileAcc&, F f) { f(ushort(), ushort(), ushort(), any_value()); }
template <typename F> void tile_for_each_pair(thread TileAcc&, F f) { f(ushort(), ushort(), any_value(), any_value()); }
template <int N> void tile_row_max(const thread TileAcc (&)[N], thread float*);
template <int N> void tile_row_sum(const thread TileAcc (&)[N], thread float*);
void tile_row_max(const thread TileAcc&, thread float*);
void tile_row_sum(const thread TileAcc&, thread float*);
ushort tile_row_of(ushort);
ushort tile_pair_row();
ushort tile_pair_column();
template <typename T> void tile_set_pair(thread TileA<T>&, ushort, ushort, uint);
template <typename T> void tile_set_pair_transposed(thread TileB<T>&, ushort, ushort, uint);
template <typename T> void tile_multiply_add_left(thread TileAcc&, const thread TileA<T>&, const thread TileB<T>&);
thread float& tile_value(thread TileAcc&, ushort);
float tile_value(const thread TileAcc&, ushort);
void tile_scale_rows(thread TileAcc&, const thread float*);
template <typename T> void tile_acc_to_a(thread TileA<T>&, const thread TileAcc&);

constexpr int WIDE_PADDING = 8;
template <int ROWS, int COLUMNS> int wide_place(int, int);
void wide_publish();
void wide_begin();
void wide_commit();
template <int N> void wide_wait();
template <int ROWS, int N, int K, typename T>
void wide_multiply_transposed(thread TileAcc (&)[N / 16], const threadgroup T*, int, const threadgroup T*);
template <int K, int N, typename T>
void wide_multiply_add(thread TileAcc (&)[N / 16], const thread TileA<T> (&)[K / 16], const threadgroup T*);

// Indices, template arguments and arrays of the kernels of these tests.
uint3 thread_position_in_grid, threads_per_grid, threadgroup_position_in_grid, threadgroups_per_grid;
uint3 thread_position_in_threadgroup, threads_per_threadgroup;
uint thread_index_in_threadgroup, thread_index_in_simdgroup, simdgroup_index_in_threadgroup;
uint simdgroups_per_threadgroup, threads_per_simdgroup;
using T = float;
constexpr int FACTOR = 2, ROWS = 16, COLUMNS = 32, K = 32, N = 32;
constexpr bool WITH_B = true, TRANSPOSED = true;
extern const device T *a, *b, *q, *k, *v;
extern const device uint *limit, *words;
extern constant int *a_shape, *b_shape;
extern constant long *a_strides, *b_strides;
extern int a_ndim;
#ifdef UINT_OUTPUT
extern device uint* out;
#else
extern device T* out;
#endif
extern device T* means;
extern device float *sums, *mixes, *floats, *stats;
extern device uint* bits;
extern device int* told;
extern device bfloat16_t* brains;
