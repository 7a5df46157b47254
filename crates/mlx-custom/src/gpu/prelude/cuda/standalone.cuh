// What kernels need of the headers that MLX puts in front of them, and no more: those take a second to read, for every kernel.
//
// Stands in the place of MLX's first lines, see `source.rs`. The rest of the source is the same.
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#define inf __int_as_float(0x7f800000)

using int8_t = signed char;
using int16_t = short;
using int32_t = int;
using int64_t = long;
using uint8_t = unsigned char;
using uint16_t = unsigned short;
using uint32_t = unsigned int;
using uint64_t = unsigned long;

namespace cuda::std {
template <typename T, typename U>
constexpr bool is_same_v = false;
template <typename T>
constexpr bool is_same_v<T, T> = true;
template <typename From, typename To>
constexpr bool is_convertible_v = __is_convertible_to(From, To);
template <bool CONDITION, typename T>
struct enable_if {};
template <typename T>
struct enable_if<true, T> {
  using type = T;
};
template <bool CONDITION, typename T = void>
using enable_if_t = typename enable_if<CONDITION, T>::type;
} // namespace cuda::std

// MLX's text gives it a shorter name.
namespace cooperative_groups {}

namespace mlx::core::cu {
// MLX passes them as arrays of 10 numbers, `cuda::std::array<T, MAX_NDIM>`: this must lie in memory in the same way.
template <typename T>
struct PerAxis {
  T values[10];
  const T& operator[](int axis) const { return values[axis]; }
};
using Shape = PerAxis<int32_t>;
using Strides = PerAxis<int64_t>;
} // namespace mlx::core::cu
