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
