// An operation written in Rust as a node of MLX's graph.
//
// MLX calls `eval_cpu` on the thread that evaluates, when the node's turn comes: there the outputs get their buffers
// and a task goes into the stream's queue. The stream's own thread runs the task later. No exception and no panic
// crosses between the languages: errors cross as text, and are thrown again on this side, inside the task, from
// where MLX carries them to whoever waits.

#include "bridge.h"

#include "guarded.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <future>
#include <memory>
#include <stdexcept>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "mlx/allocator.h"
#include "mlx/array.h"
#include "mlx/backend/cpu/encoder.h"
#include "mlx/backend/cuda/cuda.h"
#include "mlx/c/private/array.h"
#include "mlx/c/private/enums.h"
#include "mlx/c/private/stream.h"
#include "mlx/primitives.h"
#include "mlx/scheduler.h"
#include "mlx/small_vector.h"
#ifdef __linux__
#include <unistd.h>
#endif

namespace mx = mlx::core;

namespace {

// A buffer may be this much larger than what is kept in it before taking it over counts as a waste of memory.
// The figure is that of MLX's own operations.
constexpr size_t kDonationSlack = 16384;

void append_text(void* context, const char* text, size_t length) {
  try {
    static_cast<std::string*>(context)->append(text, length);
  } catch (...) {
    // No memory for the message; the failure itself is reported all the same.
  }
}

// MLX 0.32.2 calls the thread that uses it first the main thread. On that thread alone, an error in a task that runs is
// thrown while later nodes are still being queued. The evaluation ends there: what had been queued counts as computed,
// although it may not have run, and the count of tasks under way goes wrong, until after a dozen such errors every
// evaluation waits for ever. So a thread of our own is the first, when the program is loaded, and then sleeps for good:
// it must not end, because its identity could pass to another thread. Errors then come when somebody waits.
class FirstUser {
 public:
  FirstUser() {
    choose_graph_size();
    auto ready = std::make_shared<std::promise<void>>();
    is_ready_ = ready->get_future().share();
    try {
      std::thread([ready] {
        mx::allocator::allocator();  // made first, so that it is destroyed last
        mx::scheduler::scheduler();
        end_without_taking_apart();
        ready->set_value();
        for (;;) {
          std::this_thread::sleep_for(std::chrono::hours(24));
        }
      }).detach();
    } catch (const std::system_error&) {
      // A system that starts no thread more. What the program can do without MLX it does, and MLX will say so itself.
      ready->set_value();
    }
    // It is ready at once, but for a GPU's driver: then it is enough that it was first.
    is_ready_.wait_for(std::chrono::milliseconds(100));
  }

  // A program that ends before the driver is ready (`--help`) would take it apart while it is being set up.
  ~FirstUser() { is_ready_.wait_for(std::chrono::seconds(30)); }

 private:
  // A GPU of NVIDIA begins when a CUDA graph is complete. MLX puts some ninety operations into one on a fast GPU, a third of a
  // token; in smaller ones the GPU works while the next is written. Read by MLX when it makes a stream.
  static void choose_graph_size() {
#ifdef __linux__
    if (mx::cu::is_available()) {
      setenv("MLX_MAX_OPS_PER_BUFFER", "32", 0);
    }
#endif
  }

  // At a program's end CUDA's libraries take apart what they share, each from its own exit handler; on an H200 some programs died
  // of it after their work, and compute-sanitizer always. The system frees everything anyway. Handlers run from the last to the
  // first: this one comes behind those of what was made after it, and ahead of those of CUDA's libraries.
  static void end_without_taking_apart() {
#ifdef __linux__
    if (mx::cu::is_available() && !std::getenv("TINY_LLM_FULL_EXIT")) {
      on_exit(
          [](int status, void*) {
            std::fflush(nullptr);
            _exit(status);
          },
          nullptr);
    }
#endif
  }

  std::shared_future<void> is_ready_;
};

const FirstUser first_user;

// Everything one run needs, in one allocation. The arrays themselves may be gone by the time that the task runs: MLX
// keeps only their buffers alive until then.
class Call {
 public:
  Call(std::shared_ptr<void> operation, mlx_custom_run run, size_t n_inputs)
      : operation_(std::move(operation)), run_(run), n_inputs_(n_inputs) {}

  void add(const mx::array& array, bool moved) {
    const bool strided = !array.flags().row_contiguous;
    places_.push_back({array.size() == 0 ? mx::allocator::Buffer(nullptr) : array.buffer(), array.offset(),
                       strided ? static_cast<int32_t>(strides_.size()) : -1, moved});
    if (strided) {
      for (auto stride : array.strides()) {
        strides_.push_back(stride);
      }
    }
  }

  void operator()() {
    mx::SmallVector<mlx_custom_tensor, 12> tensors;
    for (auto& place : places_) {
      // Asked for here and not earlier: with a GPU, this is what makes the data visible to the CPU.
      auto* start = static_cast<char*>(place.buffer.ptr() ? place.buffer.raw_ptr() : nullptr);
      tensors.push_back({start ? start + place.offset : nullptr,
                         place.strides_at < 0 ? nullptr : strides_.data() + place.strides_at, place.moved});
    }
    std::string message;
    if (!run_(operation_.get(), tensors.data(), tensors.data() + n_inputs_, append_text, &message)) {
      throw std::runtime_error(message.empty() ? "a custom operation failed" : message);
    }
  }

 private:
  struct Place {
    mx::allocator::Buffer buffer;
    int64_t offset;  // bytes
    int32_t strides_at;
    bool moved;
  };

  std::shared_ptr<void> operation_;
  mlx_custom_run run_;
  size_t n_inputs_;
  mx::SmallVector<Place, 12> places_;  // inputs, then outputs
  mx::SmallVector<int64_t, 24> strides_;
};

class RustPrimitive : public mx::Primitive {
 public:
  RustPrimitive(mx::Stream stream, const char* name, std::shared_ptr<void> operation, mlx_custom_run run,
                size_t n_inputs, std::vector<int32_t> reuses)
      : mx::Primitive(stream),
        name_(name),
        operation_(std::move(operation)),
        run_(run),
        n_inputs_(n_inputs),
        reuses_(std::move(reuses)) {}

  void eval_cpu(const std::vector<mx::array>& inputs, std::vector<mx::array>& outputs) override {
    refuse_second_run(inputs, outputs);
    mx::SmallVector<bool, 12> moved(n_inputs_, false);
    mx::SmallVector<bool, 12> took_over(outputs.size(), false);
    if (std::any_of(reuses_.begin(), reuses_.end(), [](int32_t donor) { return donor >= 0; })) {
      release_copies_of_inputs(inputs, outputs);
    }
    for (size_t i = 0; i < outputs.size(); ++i) {
      const int32_t donor = reuses_[i];
      if (donor >= 0 && can_take_over(inputs[donor], outputs[i])) {
        outputs[i].copy_shared_buffer(inputs[donor]);
        moved[donor] = took_over[i] = true;
      } else {
        allocate(outputs[i]);
      }
    }

    auto call = std::make_shared<Call>(operation_, run_, n_inputs_);
    for (size_t i = 0; i < n_inputs_; ++i) {
      call->add(inputs[i], moved[i]);
    }
    for (size_t i = 0; i < outputs.size(); ++i) {
      call->add(outputs[i], took_over[i]);
    }
    mx::cpu::get_command_encoder(stream()).dispatch([call = std::move(call)]() { (*call)(); });
  }

  void eval_gpu(const std::vector<mx::array>&, std::vector<mx::array>&) override {
    throw std::runtime_error("[" + name_ + "] runs on the CPU only");
  }

  const char* name() const override { return name_.c_str(); }

  // Two operations of one name may differ in what they hold; MLX must not merge them.
  bool is_equivalent(const mx::Primitive&) const override { return false; }

 private:
  // An evaluation that stops while it is queueing (no memory, say) leaves the rest as it was, to be evaluated again. That
  // is right unless this node's task was queued already and works in place.
  void refuse_second_run(const std::vector<mx::array>& inputs, const std::vector<mx::array>& outputs) const {
    bool began = inputs.size() != n_inputs_;
    for (size_t i = 0; i < outputs.size() && !began; ++i) {
      began = reuses_[i] >= 0 && outputs[i].data_shared_ptr() &&
              outputs[i].data_shared_ptr() == inputs[reuses_[i]].data_shared_ptr();
    }
    if (began) {
      throw std::runtime_error("[" + name_ + "] began in an evaluation that failed, and cannot begin again");
    }
  }

  // Each output of a node holds the list of the node's inputs, so an input of a node with two outputs is never used
  // by one alone. Only one of the lists is needed, and MLX clears all of them after this call.
  void release_copies_of_inputs(const std::vector<mx::array>& inputs, std::vector<mx::array>& outputs) const {
    for (auto& output : outputs) {
      if (&output.inputs() != &inputs && !output.is_tracer()) {
        output.inputs().clear();
      }
    }
  }

  static bool can_take_over(const mx::array& input, const mx::array& output) {
    return input.size() > 0 && input.is_donatable() && input.flags().row_contiguous &&
           input.offset() % static_cast<int64_t>(input.itemsize()) == 0 &&
           input.buffer_size() <= output.nbytes() + kDonationSlack;
  }

  void allocate(mx::array& output) const {
    auto buffer = mx::allocator::malloc(output.nbytes());
    if (!buffer.ptr() && output.nbytes() > 0) {
      throw std::runtime_error("[" + name_ + "] no memory for an output of " + std::to_string(output.nbytes()) +
                               " bytes");
    }
    output.set_data(buffer);
  }

  std::string name_;
  std::shared_ptr<void> operation_;
  mlx_custom_run run_;
  size_t n_inputs_;
  std::vector<int32_t> reuses_;  // per output: the input whose buffer it may take over, or -1
};

std::vector<mx::array> make_node(const char* name, std::shared_ptr<void> operation, mlx_custom_run run,
                                 mlx_stream stream, const mlx_array* inputs, size_t n_inputs,
                                 const mlx_custom_output* outputs, size_t n_outputs) {
  const bool on_cpu = stream.ctx && mlx_stream_get_(stream).device == mx::Device::cpu;
  const mx::Stream where = on_cpu ? mlx_stream_get_(stream) : mx::default_stream(mx::Device::cpu);

  std::vector<mx::array> arrays;
  arrays.reserve(n_inputs);
  for (size_t i = 0; i < n_inputs; ++i) {
    arrays.push_back(mlx_array_get_(inputs[i]));
  }
  std::vector<mx::Shape> shapes;
  std::vector<mx::Dtype> dtypes;
  std::vector<int32_t> reuses;
  for (size_t i = 0; i < n_outputs; ++i) {
    shapes.emplace_back(outputs[i].shape, outputs[i].shape + outputs[i].ndim);
    dtypes.push_back(mlx_dtype_to_cpp(outputs[i].dtype));
    reuses.push_back(outputs[i].reuses);
  }
  auto primitive =
      std::make_shared<RustPrimitive>(where, name, std::move(operation), run, n_inputs, std::move(reuses));
  if (n_outputs == 1) {
    return {mx::array(std::move(shapes[0]), dtypes[0], std::move(primitive), std::move(arrays))};
  }
  return mx::array::make_arrays(std::move(shapes), dtypes, primitive, arrays);
}

}  // namespace

extern "C" bool mlx_custom_apply(const char* name, void* operation, mlx_custom_run run, mlx_custom_drop drop,
                                 mlx_stream stream, const mlx_array* inputs, size_t n_inputs,
                                 const mlx_custom_output* outputs, size_t n_outputs, mlx_array* results,
                                 mlx_custom_text report, void* report_context) {
  return guarded(report, report_context, [&] {
    // From here on the operation is destroyed with its last owner, also if this line itself fails.
    std::shared_ptr<void> owned(operation, drop);
    auto arrays = make_node(name, std::move(owned), run, stream, inputs, n_inputs, outputs, n_outputs);
    for (size_t i = 0; i < n_outputs; ++i) {
      results[i] = mlx_array_new_(std::move(arrays[i]));
    }
  });
}
