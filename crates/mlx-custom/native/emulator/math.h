// The functions of Metal's `metal::` namespace, in float. Those of 16-bit types compute in float and round once.

#define INFINITY (__builtin_inff())
#define NAN (__builtin_nanf(""))
#define MAXFLOAT (__FLT_MAX__)
#define FLT_MAX (__FLT_MAX__)
#define M_PI_F 3.14159265358979323846f
#define M_LOG2E_F 1.44269504088896340736f
#define M_LN2_F 0.69314718055994530942f

namespace metal {

#define EMU_FUNCTION_1(NAME, FLOAT)                                                        \
  EMU_INLINE float NAME(float x) { return FLOAT; }                                         \
  EMU_INLINE half NAME(half x_) { float x = x_; return half(FLOAT); }                      \
  EMU_INLINE bfloat16_t NAME(bfloat16_t x_) { float x = x_; return bfloat16_t(FLOAT); }    \
  template <emu::integer I>                                                                \
  EMU_INLINE float NAME(I x_) { float x = float(x_); return FLOAT; }                       \
  template <typename T, int N>                                                             \
  EMU_INLINE vec<T, N> NAME(const vec<T, N>& x) {                                          \
    vec<T, N> result;                                                                      \
    for (int i = 0; i < N; ++i) result[i] = NAME(x[i]);                                    \
    return result;                                                                         \
  }

#define EMU_FUNCTIONS                                     \
  EMU_FUNCTION_1(exp, __builtin_expf(x))                  \
  EMU_FUNCTION_1(exp2, __builtin_exp2f(x))                \
  EMU_FUNCTION_1(log, __builtin_logf(x))                  \
  EMU_FUNCTION_1(log2, __builtin_log2f(x))                \
  EMU_FUNCTION_1(sqrt, __builtin_sqrtf(x))                \
  EMU_FUNCTION_1(rsqrt, 1.0f / __builtin_sqrtf(x))        \
  EMU_FUNCTION_1(sin, __builtin_sinf(x))                  \
  EMU_FUNCTION_1(cos, __builtin_cosf(x))                  \
  EMU_FUNCTION_1(tanh, __builtin_tanhf(x))                \
  EMU_FUNCTION_1(floor, __builtin_floorf(x))              \
  EMU_FUNCTION_1(ceil, __builtin_ceilf(x))                \
  EMU_FUNCTION_1(trunc, __builtin_truncf(x))              \
  EMU_FUNCTION_1(rint, __builtin_rintf(x))                \
  EMU_FUNCTION_1(round, __builtin_roundf(x))              \
  EMU_FUNCTION_1(fabs, __builtin_fabsf(x))                \
  EMU_INLINE float pow(float x, float y) { return __builtin_powf(x, y); }

EMU_FUNCTIONS
namespace fast {
EMU_FUNCTIONS
}
namespace precise {
EMU_FUNCTIONS
}

EMU_INLINE float abs(float x) { return __builtin_fabsf(x); }
EMU_INLINE half abs(half x) { return half::from_bits(x.bits & 0x7fff); }
EMU_INLINE bfloat16_t abs(bfloat16_t x) { return bfloat16_t::from_bits(x.bits & 0x7fff); }
template <emu::integer I>
EMU_INLINE I abs(I x) { return x < I(0) ? I(-x) : x; }

EMU_INLINE bool isnan(float x) { return __builtin_isnan(x); }
EMU_INLINE bool isinf(float x) { return __builtin_isinf(x); }
EMU_INLINE bool isfinite(float x) { return __builtin_isfinite(x); }

EMU_INLINE float fma(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
EMU_INLINE half fma(half a, half b, half c) { return half(__builtin_fmaf(a, b, c)); }
EMU_INLINE bfloat16_t fma(bfloat16_t a, bfloat16_t b, bfloat16_t c) { return bfloat16_t(__builtin_fmaf(a, b, c)); }
template <typename T, int N>
EMU_INLINE vec<T, N> fma(const vec<T, N>& a, const vec<T, N>& b, const vec<T, N>& c) {
  vec<T, N> result;
  for (int i = 0; i < N; ++i) result[i] = fma(a[i], b[i], c[i]);
  return result;
}

// As for fmax and fmin: of a NaN and a number, the number.
#define EMU_EXTREMES(T)                                                                            \
  EMU_INLINE T max(T a, T b) { return a > b || b != b ? a : b; }                                   \
  EMU_INLINE T min(T a, T b) { return a < b || b != b ? a : b; }                                   \
  EMU_INLINE T clamp(T x, T low, T high) { return min(max(x, low), high); }
EMU_EXTREMES(float)
EMU_EXTREMES(half)
EMU_EXTREMES(bfloat16_t)
EMU_EXTREMES(int)
EMU_EXTREMES(uint)
EMU_EXTREMES(short)
EMU_EXTREMES(ushort)
EMU_EXTREMES(char)
EMU_EXTREMES(uchar)
EMU_EXTREMES(long)
EMU_EXTREMES(ulong)
EMU_INLINE float fmax(float a, float b) { return max(a, b); }
EMU_INLINE float fmin(float a, float b) { return min(a, b); }
template <typename T, int N>
EMU_INLINE vec<T, N> max(const vec<T, N>& a, const vec<T, N>& b) {
  vec<T, N> result;
  for (int i = 0; i < N; ++i) result[i] = max(a[i], b[i]);
  return result;
}
template <typename T, int N>
EMU_INLINE vec<T, N> min(const vec<T, N>& a, const vec<T, N>& b) {
  vec<T, N> result;
  for (int i = 0; i < N; ++i) result[i] = min(a[i], b[i]);
  return result;
}

// `b` where the condition holds, else `a`.
template <typename T>
EMU_INLINE T select(T a, T b, bool condition) { return condition ? b : a; }

template <typename T, int N>
EMU_INLINE T dot(const vec<T, N>& a, const vec<T, N>& b) {
  T sum = a[0] * b[0];
  for (int i = 1; i < N; ++i) sum = T(sum + a[i] * b[i]);
  return sum;
}

}  // namespace metal

using namespace metal;
