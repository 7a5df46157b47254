// Kernels for NVIDIA's GPUs, through MLX's `cuda_kernel`.
//
// MLX writes a kernel's whole source again at every start and keeps it in the node of the graph: some ten thousand bytes,
// copied several times, for each of the hundreds of starts that make a token. But what MLX makes of it, the node's
// primitive, depends on the grid and the threadgroup alone and never changes. So it is kept, and nodes share it.
//
// When a node is evaluated, MLX 0.32.2 looks for the kernel by its name and a hash of its source, which it computes at each start of
// 15 to 40 thousand bytes. Only if the kernel is new, MLX looks for it on disk by the same name, and at last compiles the source.
// So a kernel that is compiled gets a source of some hundred bytes, and its files get the names that MLX then looks for.

#include <filesystem>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <sstream>
#include <string>
#include <system_error>
#include <tuple>
#include <utility>
#include <vector>

#include "guarded.h"
#include "mlx/array.h"
#include "mlx/c/private/array.h"
#include "mlx/c/private/enums.h"
#include "mlx/c/private/stream.h"
#include "mlx/fast.h"
#include "mlx/fast_primitives.h"
#include "mlx/primitives.h"

namespace mx = mlx::core;

namespace {

// Prompts of different lengths have different grids. Each start that is kept holds the kernel's source.
constexpr size_t kMaxKept = 32;

using Sizes = std::tuple<int, int, int>;

Sizes sizes(const int32_t* values) { return {values[0], values[1], values[2]}; }

}  // namespace

struct mlx_custom_cuda_kernel {
  struct Start {
    mx::Stream stream;
    Sizes grid, threadgroup;
    std::optional<float> fill;
    bool operator==(const Start&) const = default;
  };

  mlx_custom_cuda_kernel(mx::fast::CustomKernelFunction from_source, mx::fast::CustomKernelFunction compiled,
                         std::filesystem::path folder)
      : from_source_(std::move(from_source)), compiled_(std::move(compiled)), folder_(std::move(folder)) {}

  std::vector<mx::array> start(const Start& start, std::vector<mx::Shape> shapes, const std::vector<mx::Dtype>& dtypes,
                               const std::vector<mx::array>& inputs) {
    std::lock_guard lock(mutex_);
    for (const auto& [known, primitive] : kept_) {
      if (known == start) {
        return mx::array::make_arrays(std::move(shapes), dtypes, primitive, inputs);
      }
    }
    const auto make = [&](const mx::fast::CustomKernelFunction& function) {
      return function(inputs, shapes, dtypes, start.grid, start.threadgroup, {}, start.fill, false, start.stream);
    };
    std::vector<mx::array> arrays;
    if (compiled_) {
      arrays = make(compiled_);
      if (!name_files(arrays.at(0).primitive())) {
        arrays.clear();
      }
    }
    if (arrays.empty()) {
      arrays = make(from_source_);
    }
    if (kept_.size() == kMaxKept) {
      kept_.erase(kept_.begin());
    }
    kept_.emplace_back(start, arrays.at(0).primitive_ptr());
    return arrays;
  }

 private:
  // Gives the compiled kernel's files the names by which MLX will look for them.
  bool name_files(const mx::Primitive& primitive) const {
    const auto state = static_cast<const mx::fast::CustomKernel&>(primitive).state();
    const std::string& name = std::get<0>(state);
    std::ostringstream module;
    module << name << '_' << std::hex << std::hash<std::string>()(std::get<1>(state));
    // MLX looks for the second first.
    for (const char* extension : {".txt", ".ptx"}) {
      const auto file = folder_ / (name + extension), link = folder_ / (module.str() + extension);
      std::error_code error;
      std::filesystem::create_hard_link(file, link, error);
      if (error && !std::filesystem::exists(link, error)) {
        return false;
      }
    }
    return true;
  }

  mx::fast::CustomKernelFunction from_source_, compiled_;  // the second is empty if the kernel is not compiled
  std::filesystem::path folder_;
  std::mutex mutex_;
  std::vector<std::pair<Start, std::shared_ptr<mx::Primitive>>> kept_;  // the oldest first
};

extern "C" mlx_custom_cuda_kernel* mlx_custom_cuda_kernel_new(const char* name, const char* const* inputs,
                                                              size_t n_inputs, const char* const* outputs,
                                                              size_t n_outputs, const char* header, const char* body,
                                                              const char* stand_in, const char* folder, bool row_major,
                                                              int32_t dynamic_bytes,
                                                              mlx_custom_text report, void* report_context) {
  mlx_custom_cuda_kernel* kernel = nullptr;
  guarded(report, report_context, [&] {
    const auto make = [&](const char* the_body, const char* the_header) {
      return mx::fast::cuda_kernel(name, {inputs, inputs + n_inputs}, {outputs, outputs + n_outputs}, the_body,
                                   the_header, row_major, dynamic_bytes);
    };
    kernel = new mlx_custom_cuda_kernel(make(body, header), folder ? make(stand_in, "") : nullptr, folder ? folder : "");
  });
  return kernel;
}

extern "C" void mlx_custom_cuda_kernel_free(mlx_custom_cuda_kernel* kernel) { delete kernel; }

extern "C" bool mlx_custom_cuda_kernel_start(mlx_custom_cuda_kernel* kernel, mlx_stream stream, const int32_t* grid,
                                             const int32_t* threadgroup, const float* fill, const mlx_array* inputs,
                                             size_t n_inputs, const mlx_custom_output* outputs, size_t n_outputs,
                                             mlx_array* results, mlx_custom_text report, void* report_context) {
  return guarded(report, report_context, [&] {
    std::vector<mx::array> arrays;
    arrays.reserve(n_inputs);
    for (size_t i = 0; i < n_inputs; ++i) {
      arrays.push_back(mlx_array_get_(inputs[i]));
    }
    std::vector<mx::Shape> shapes;
    std::vector<mx::Dtype> dtypes;
    for (size_t i = 0; i < n_outputs; ++i) {
      shapes.emplace_back(outputs[i].shape, outputs[i].shape + outputs[i].ndim);
      dtypes.push_back(mlx_dtype_to_cpp(outputs[i].dtype));
    }
    const auto value = fill ? std::optional<float>(*fill) : std::nullopt;
    auto made = kernel->start({mlx_stream_get_(stream), sizes(grid), sizes(threadgroup), value}, std::move(shapes),
                              dtypes, arrays);
    for (size_t i = 0; i < n_outputs; ++i) {
      results[i] = mlx_array_new_(std::move(made.at(i)));
    }
  });
}
