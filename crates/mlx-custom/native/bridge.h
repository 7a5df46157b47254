// What crosses between Rust and C++. src/bridge.rs declares the same; change both together.
#pragma once

#include <cstddef>
#include <cstdint>

#include "mlx/c/array.h"
#include "mlx/c/stream.h"

extern "C" {

// Receives a text: `context` belongs to whoever made the function. Never unwinds.
typedef void (*mlx_custom_text)(void* context, const char* text, size_t length);

// What the graph must know of an output before there is any data.
struct mlx_custom_output {
  const int32_t* shape;
  size_t ndim;
  mlx_dtype dtype;
  int32_t reuses;  // the input whose buffer it may take over, or -1
};

// One tensor while the operation runs. Shapes and dtypes are not here: Rust has kept them.
struct mlx_custom_tensor {
  void* data;              // the first element; null if there is none
  const int64_t* strides;  // in elements, one per axis; null if row-major
  bool moved;              // input: an output has taken the buffer over; output: it took one over
};

// Runs an operation; false after an error, which it has passed to `report`. Never unwinds.
typedef bool (*mlx_custom_run)(const void* operation, const mlx_custom_tensor* inputs, const mlx_custom_tensor* outputs,
                               mlx_custom_text report, void* report_context);

// Destroys an operation. Never unwinds.
typedef void (*mlx_custom_drop)(void* operation);

// Adds a node to the graph; nothing runs yet. Takes `operation` over, whether it succeeds or not.
// An empty `stream`, or one that is not on the CPU, stands for the calling thread's default CPU stream.
// False after an error, which it has passed to `report`; then `results` is untouched.
bool mlx_custom_apply(const char* name, void* operation, mlx_custom_run run, mlx_custom_drop drop, mlx_stream stream,
                      const mlx_array* inputs, size_t n_inputs, const mlx_custom_output* outputs, size_t n_outputs,
                      mlx_array* results, mlx_custom_text report, void* report_context);

// A kernel for NVIDIA's GPUs, as MLX's `cuda_kernel` takes it: see native/cuda_kernel.cpp.
struct mlx_custom_cuda_kernel;

// All texts are copied. `row_major`: inputs that are not get copied at every start. If `folder` is not null, it is the one where
// MLX looks for compiled kernels, and this one is there as `custom_kernel_NAME`; `stand_in` is then a short body for it, that
// names the same shapes and strides. Null after an error, which it has passed to `report`.
mlx_custom_cuda_kernel* mlx_custom_cuda_kernel_new(const char* name, const char* const* inputs, size_t n_inputs,
                                                   const char* const* outputs, size_t n_outputs, const char* header,
                                                   const char* body, const char* stand_in, const char* folder,
                                                   bool row_major, int32_t dynamic_bytes,
                                                   mlx_custom_text report, void* report_context);

void mlx_custom_cuda_kernel_free(mlx_custom_cuda_kernel* kernel);

// Adds a start to the graph. `grid` counts threads; both it and `threadgroup` have three numbers. `fill` may be null. `reuses` of
// an output is not read. False after an error, which it has passed to `report`; then `results` is untouched.
bool mlx_custom_cuda_kernel_start(mlx_custom_cuda_kernel* kernel, mlx_stream stream, const int32_t* grid,
                                  const int32_t* threadgroup, const float* fill, const mlx_array* inputs,
                                  size_t n_inputs, const mlx_custom_output* outputs, size_t n_outputs,
                                  mlx_array* results, mlx_custom_text report, void* report_context);

// Adds to the graph: `buffer` with `added` behind its first `len` entries along `axis`. Nobody may read what is written over: once the
// evaluation of `buffer` has begun, its memory is used although others hold it. `owner` may be null, and an empty `stream` stands
// for the default device's default stream. `owns` is set if `buffer`, not `owner`, is what holds that memory; then it must be the
// next call's `owner`. False after an error, which it has passed to `report`; then `result` is untouched. See
// native/append_buffer.cpp.
bool mlx_custom_append(mlx_array buffer, mlx_array owner, mlx_array added, int32_t axis, int32_t len, mlx_stream stream,
                       mlx_array* result, bool* owns, mlx_custom_text report, void* report_context);
}
