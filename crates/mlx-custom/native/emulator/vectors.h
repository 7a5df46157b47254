// Metal's vectors: `float4`, `half2`, `uint4`, ... with .x .y .z .w and [i], and arithmetic by element.
//
// A copy is one access of the whole vector, as on a GPU: that is what `raw` is for, a type that the compiler loads in one
// piece. So a wide load that is misaligned, or reaches beyond an array, shows as what it is. Unwatched, a kernel works in MLX's own
// memory, which on a CPU begins at multiples of 8 bytes: there the processor may expect no more.

#if defined(__SANITIZE_THREAD__)
#define EMU_ALIGNMENT(BYTES) (BYTES)
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define EMU_ALIGNMENT(BYTES) (BYTES)
#endif
#endif
#ifndef EMU_ALIGNMENT
#define EMU_ALIGNMENT(BYTES) ((BYTES) < 8 ? (BYTES) : 8)
#endif

namespace emu {

template <unsigned BYTES>
struct RawOf;
template <>
struct RawOf<2> { using type = ushort; };
template <>
struct RawOf<4> { using type = uint; };
template <>
struct RawOf<8> { using type = uint __attribute__((vector_size(8), may_alias)); };
template <>
struct RawOf<16> { using type = uint __attribute__((vector_size(16), may_alias, aligned(EMU_ALIGNMENT(16)))); };
template <>
struct RawOf<32> { using type = uint __attribute__((vector_size(32), may_alias, aligned(EMU_ALIGNMENT(32)))); };

// clang would load only those elements of a vector that are used later, and the access would no more be seen as one.
template <typename Raw>
EMU_INLINE Raw whole(const Raw& from) {
  const Raw raw = from;
#if defined(__clang__)
#if __has_feature(thread_sanitizer)
  if constexpr (sizeof(Raw) == 8) {
    __asm__ volatile("" ::"r"(__builtin_bit_cast(ulong, raw)));
  }
  if constexpr (sizeof(Raw) == 16) {
#if defined(__x86_64__)
    __asm__ volatile("" ::"x"(raw));
#elif defined(__aarch64__)
    __asm__ volatile("" ::"w"(raw));
#endif
  }
#endif
#endif
  return raw;
}

}  // namespace emu

#define EMU_VECTOR_COMMON(N)                                                                        \
  vec() = default;                                                                                         \
  EMU_INLINE vec(const vec& other) : raw(emu::whole(other.raw)) {}                                         \
  EMU_INLINE vec& operator=(const vec& other) {                                                            \
    raw = other.raw;                                                                                       \
    return *this;                                                                                          \
  }                                                                                                        \
  template <typename U>                                                                                    \
    requires(!same<U, T>)                                                                                  \
  EMU_INLINE explicit vec(const vec<U, N>& other) {                                                        \
    for (int i = 0; i < N; ++i) (*this)[i] = T(other[i]);                                    \
  }                                                                                                        \
  EMU_INLINE T& operator[](unsigned i) { return (&x)[i]; }                                                 \
  EMU_INLINE const T& operator[](unsigned i) const { return (&x)[i]; }                                     \
  EMU_VECTOR_ASSIGN(N, +)                                                                                  \
  EMU_VECTOR_ASSIGN(N, -)                                                                                  \
  EMU_VECTOR_ASSIGN(N, *)                                                                                  \
  EMU_VECTOR_ASSIGN(N, /)

#define EMU_VECTOR_ASSIGN(N, OP)                                                                           \
  template <typename U>                                                                                    \
  EMU_INLINE vec& operator OP##=(const U& other) { return *this = vec(*this OP other); }

template <typename T, int N>
struct vec;

template <typename T>
struct alignas(EMU_ALIGNMENT(2 * sizeof(T))) vec<T, 2> {
  union {
    struct { T x, y; };
    typename emu::RawOf<2 * sizeof(T)>::type raw;
  };
  EMU_VECTOR_COMMON(2)
  EMU_INLINE vec(T all) { x = all; y = all; }
  EMU_INLINE vec(T x_, T y_) { x = x_; y = y_; }
};

template <typename T>
struct alignas(EMU_ALIGNMENT(4 * sizeof(T))) vec<T, 3> {
  union {
    struct { T x, y, z; };
    typename emu::RawOf<4 * sizeof(T)>::type raw;
  };
  EMU_VECTOR_COMMON(3)
  EMU_INLINE vec(T all) { x = all; y = all; z = all; }
  EMU_INLINE vec(T x_, T y_, T z_) { x = x_; y = y_; z = z_; }
};

template <typename T>
struct alignas(EMU_ALIGNMENT(4 * sizeof(T))) vec<T, 4> {
  union {
    struct { T x, y, z, w; };
    typename emu::RawOf<4 * sizeof(T)>::type raw;
  };
  EMU_VECTOR_COMMON(4)
  EMU_INLINE vec(T all) { x = all; y = all; z = all; w = all; }
  EMU_INLINE vec(T x_, T y_, T z_, T w_) { x = x_; y = y_; z = z_; w = w_; }
  EMU_INLINE vec(const vec<T, 2>& low, const vec<T, 2>& high) { x = low.x; y = low.y; z = high.x; w = high.y; }
};

// Element by element; a number beside a vector counts for each element, and is converted to the element's type.
#define EMU_VECTOR_OPERATOR(OP)                                                                            \
  template <typename T, int N>                                                                             \
  EMU_INLINE vec<T, N> operator OP(const vec<T, N>& a, const vec<T, N>& b) {                               \
    vec<T, N> result;                                                                                      \
    for (int i = 0; i < N; ++i) result[i] = T(a[i] OP b[i]);                                               \
    return result;                                                                                         \
  }                                                                                                        \
  template <typename T, int N>                                                                             \
  EMU_INLINE vec<T, N> operator OP(const vec<T, N>& a, emu::same_type<T> b) { return a OP vec<T, N>(b); }  \
  template <typename T, int N>                                                                             \
  EMU_INLINE vec<T, N> operator OP(emu::same_type<T> a, const vec<T, N>& b) { return vec<T, N>(a) OP b; }

namespace emu {

template <typename T>
struct SameType { using type = T; };
// A parameter of this type takes no part in finding out what T is, so that it may be converted.
template <typename T>
using same_type = typename SameType<T>::type;

}  // namespace emu

EMU_VECTOR_OPERATOR(+)
EMU_VECTOR_OPERATOR(-)
EMU_VECTOR_OPERATOR(*)
EMU_VECTOR_OPERATOR(/)
EMU_VECTOR_OPERATOR(%)
EMU_VECTOR_OPERATOR(&)
EMU_VECTOR_OPERATOR(|)
EMU_VECTOR_OPERATOR(^)
EMU_VECTOR_OPERATOR(<<)
EMU_VECTOR_OPERATOR(>>)

template <typename T, int N>
EMU_INLINE vec<T, N> operator-(const vec<T, N>& a) {
  vec<T, N> result;
  for (int i = 0; i < N; ++i) result[i] = -a[i];
  return result;
}

#define EMU_VECTOR_NAMES(TYPE, NAME) \
  using NAME##2 = vec<TYPE, 2>;      \
  using NAME##3 = vec<TYPE, 3>;      \
  using NAME##4 = vec<TYPE, 4>;

EMU_VECTOR_NAMES(float, float)
EMU_VECTOR_NAMES(half, half)
EMU_VECTOR_NAMES(bfloat16_t, bfloat)
EMU_VECTOR_NAMES(int, int)
EMU_VECTOR_NAMES(uint, uint)
EMU_VECTOR_NAMES(short, short)
EMU_VECTOR_NAMES(ushort, ushort)
EMU_VECTOR_NAMES(char, char)
EMU_VECTOR_NAMES(uchar, uchar)

template <typename T, typename U>
EMU_INLINE T as_type(const U& value) {
  static_assert(sizeof(T) == sizeof(U), "as_type keeps the bits, so both types must have one size");
  T result;
  __builtin_memcpy(&result, &value, sizeof(T));
  return result;
}
