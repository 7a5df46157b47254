// Functions that mlx-rs calls and that mlx-c lacks on Linux.
#include <chrono>
#include <cstdint>
#include <cstring>
#include <exception>

#include "mlx/c/error.h"
#include "mlx/c/private/mlx.h"

// mlx-rs seeds its random state with macOS's monotonic clock.
extern "C" uint64_t mach_approximate_time() {
  return std::chrono::steady_clock::now().time_since_epoch().count();
}

// On x86-64 mlx-c names no half-precision types, and leaves out the functions that need them.
// The two types cross the C interface by pointer only, as 16 raw bits.
#ifndef HAS_FLOAT16

namespace {

template <class Half>
int item_bits(uint16_t* result, const mlx_array array) {
  try {
    const Half value = mlx_array_get_(array).item<Half>();
    static_assert(sizeof(value) == sizeof(*result));
    std::memcpy(result, &value, sizeof(value));
    return 0;
  } catch (const std::exception& error) {
    mlx_error(error.what());
    return 1;
  }
}

template <class Half>
const uint16_t* data_bits(const mlx_array array) {
  try {
    return reinterpret_cast<const uint16_t*>(mlx_array_get_(array).data<Half>());
  } catch (const std::exception& error) {
    mlx_error(error.what());
    return nullptr;
  }
}

}  // namespace

extern "C" int mlx_array_item_float16(uint16_t* result, const mlx_array array) {
  return item_bits<mlx::core::float16_t>(result, array);
}
extern "C" int mlx_array_item_bfloat16(uint16_t* result, const mlx_array array) {
  return item_bits<mlx::core::bfloat16_t>(result, array);
}
extern "C" const uint16_t* mlx_array_data_float16(const mlx_array array) {
  return data_bits<mlx::core::float16_t>(array);
}
extern "C" const uint16_t* mlx_array_data_bfloat16(const mlx_array array) {
  return data_bits<mlx::core::bfloat16_t>(array);
}

#endif
