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
