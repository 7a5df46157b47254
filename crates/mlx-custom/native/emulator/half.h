// Metal's 16-bit floating-point types: `half` (5 bits of exponent, 10 of fraction) and `bfloat16_t` (8 and 7).
//
// Arithmetic is done in float and rounded once. For + - * / that is the correctly rounded result, since a float has more
// than twice their digits. Rounding is to the nearest, ties to even; a NaN stays a NaN.

using uint = unsigned int;
using ushort = unsigned short;
using uchar = unsigned char;
using ulong = unsigned long;

struct half;
struct bfloat16_t;

template <typename A, typename B>
concept same = __is_same(A, B);

namespace emu {

template <typename T>
inline constexpr bool is_integer = false;
template <>
inline constexpr bool is_integer<bool> = true;
template <>
inline constexpr bool is_integer<char> = true;
template <>
inline constexpr bool is_integer<signed char> = true;
template <>
inline constexpr bool is_integer<uchar> = true;
template <>
inline constexpr bool is_integer<short> = true;
template <>
inline constexpr bool is_integer<ushort> = true;
template <>
inline constexpr bool is_integer<int> = true;
template <>
inline constexpr bool is_integer<uint> = true;
template <>
inline constexpr bool is_integer<long> = true;
template <>
inline constexpr bool is_integer<ulong> = true;
template <>
inline constexpr bool is_integer<long long> = true;
template <>
inline constexpr bool is_integer<unsigned long long> = true;

template <typename T>
inline constexpr bool is_float16 = false;
template <>
inline constexpr bool is_float16<half> = true;
template <>
inline constexpr bool is_float16<bfloat16_t> = true;

template <typename T>
concept integer = is_integer<T>;
template <typename T>
concept number = is_integer<T> || same<T, float> || same<T, double>;

constexpr EMU_INLINE float half_to_float_portable(ushort bits) {
  const uint sign = uint(bits & 0x8000) << 16, magnitude = bits & 0x7fff;
  uint result = 0;
  if (magnitude >= 0x7c00) {  // infinity or NaN, which becomes a quiet one
    result = 0x7f800000 | ((magnitude & 0x3ff) << 13) | (magnitude > 0x7c00 ? 0x400000 : 0);
  } else if (magnitude >= 0x400) {
    result = (magnitude << 13) + ((127 - 15) << 23);
  } else {  // a multiple of 2^-24, exact in float
    return __builtin_bit_cast(float, sign | __builtin_bit_cast(uint, float(magnitude) * 0x1p-24f));
  }
  return __builtin_bit_cast(float, sign | result);
}

constexpr EMU_INLINE ushort float_to_half_portable(float value) {
  const uint bits = __builtin_bit_cast(uint, value), sign = (bits >> 16) & 0x8000, magnitude = bits & 0x7fffffff;
  if (magnitude > 0x7f800000) return ushort(sign | 0x7e00 | ((magnitude >> 13) & 0x3ff));
  if (magnitude >= 0x477ff000) return ushort(sign | 0x7c00);  // 65520 and more round to infinity
  if (magnitude < 0x38800000) {
    // Below 2^-14 the result is a multiple of 2^-24. Adding 0.5 leaves just these digits in a float, rounded.
    const float shifted = __builtin_bit_cast(float, magnitude) + 0.5f;
    return ushort(sign | (__builtin_bit_cast(uint, shifted) - 0x3f000000));
  }
  const uint rounded = magnitude - ((127 - 15) << 23) + 0xfff + ((magnitude >> 13) & 1);
  return ushort(sign | (rounded >> 13));
}

constexpr EMU_INLINE float half_to_float(ushort bits) {
#if defined(__aarch64__)
  if (!__builtin_is_constant_evaluated()) return float(__builtin_bit_cast(__fp16, bits));
#elif defined(__F16C__) && !defined(__clang__)
  if (!__builtin_is_constant_evaluated()) {
    using Halves = short __attribute__((vector_size(16)));
    return __builtin_ia32_vcvtph2ps(Halves{short(bits)})[0];
  }
#endif
  return half_to_float_portable(bits);
}

constexpr EMU_INLINE ushort float_to_half(float value) {
#if defined(__aarch64__)
  if (!__builtin_is_constant_evaluated()) return __builtin_bit_cast(ushort, __fp16(value));
#elif defined(__F16C__) && !defined(__clang__)
  if (!__builtin_is_constant_evaluated()) {
    using Floats = float __attribute__((vector_size(16)));
    return ushort(__builtin_ia32_vcvtps2ph(Floats{value}, 0)[0]);
  }
#endif
  return float_to_half_portable(value);
}

constexpr EMU_INLINE float bfloat16_to_float(ushort bits) { return __builtin_bit_cast(float, uint(bits) << 16); }

constexpr EMU_INLINE ushort float_to_bfloat16(float value) {
  const uint bits = __builtin_bit_cast(uint, value);
  if ((bits & 0x7fffffff) > 0x7f800000) return ushort((bits >> 16) | 0x40);
  return ushort((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

}  // namespace emu

#define EMU_FLOAT16(NAME, TO_FLOAT, FROM_FLOAT)                                                            \
  struct NAME {                                                                                            \
    ushort bits;                                                                                           \
    NAME() = default;                                                                                      \
    template <emu::number N>                                                                               \
    constexpr EMU_INLINE NAME(N value) : bits(FROM_FLOAT(float(value))) {}                                 \
    template <typename N>                                                                                  \
      requires(emu::is_float16<N> && !same<N, NAME>)                                                       \
    explicit EMU_INLINE NAME(const N& value) : bits(FROM_FLOAT(float(value))) {}                           \
    constexpr EMU_INLINE operator float() const { return TO_FLOAT(bits); }                                 \
    constexpr EMU_INLINE NAME operator-() const { return from_bits(bits ^ 0x8000); }                       \
    constexpr EMU_INLINE NAME operator+() const { return *this; }                                          \
    static constexpr EMU_INLINE NAME from_bits(ushort bits) {                                              \
      NAME result{};                                                                                       \
      result.bits = bits;                                                                                  \
      return result;                                                                                       \
    }                                                                                                      \
    template <typename N>                                                                                  \
    EMU_INLINE NAME& operator+=(N other) { return *this = NAME(float(*this) + float(other)); }             \
    template <typename N>                                                                                  \
    EMU_INLINE NAME& operator-=(N other) { return *this = NAME(float(*this) - float(other)); }             \
    template <typename N>                                                                                  \
    EMU_INLINE NAME& operator*=(N other) { return *this = NAME(float(*this) * float(other)); }             \
    template <typename N>                                                                                  \
    EMU_INLINE NAME& operator/=(N other) { return *this = NAME(float(*this) / float(other)); }             \
  };                                                                                                       \
  EMU_FLOAT16_OPERATOR(NAME, +)                                                                            \
  EMU_FLOAT16_OPERATOR(NAME, -)                                                                            \
  EMU_FLOAT16_OPERATOR(NAME, *)                                                                            \
  EMU_FLOAT16_OPERATOR(NAME, /)

// With another of its kind or an integer the result is 16 bits wide; with a float it is a float (through the conversion).
#define EMU_FLOAT16_OPERATOR(NAME, OP)                                                                     \
  template <same<NAME> A, same<NAME> B>                                                                    \
  constexpr EMU_INLINE NAME operator OP(A a, B b) { return NAME(float(a) OP float(b)); }                   \
  template <same<NAME> A, emu::integer B>                                                                  \
  constexpr EMU_INLINE NAME operator OP(A a, B b) { return NAME(float(a) OP float(NAME(b))); }             \
  template <emu::integer A, same<NAME> B>                                                                  \
  constexpr EMU_INLINE NAME operator OP(A a, B b) { return NAME(float(NAME(a)) OP float(b)); }

EMU_FLOAT16(half, emu::half_to_float, emu::float_to_half)
EMU_FLOAT16(bfloat16_t, emu::bfloat16_to_float, emu::float_to_bfloat16)

using bfloat = bfloat16_t;
