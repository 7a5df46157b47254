// A buffer that grows at one end: see src/append_buffer.rs.
//
// MLX lets an operation write into the memory of an input only if nobody else holds that memory. Work that a GPU has not finished
// holds all that it reads. So whoever appends to a buffer while the GPU still reads what was there before gets a copy of the whole,
// although bytes that are only ever appended are bytes that nobody reads yet.

#include <memory>
#include <utility>

#include "bridge.h"
#include "guarded.h"
#include "mlx/array.h"
#include "mlx/c/private/array.h"
#include "mlx/c/private/stream.h"
#include "mlx/event.h"
#include "mlx/ops.h"
#include "mlx/utils.h"

namespace mx = mlx::core;

namespace {

// The same memory as an array that nobody else holds. What does hold it, `owner`, lives for as long as the new array's memory.
mx::array under_new_handle(const mx::array& array, std::shared_ptr<mx::array::Data> owner, const mx::Stream& stream) {
  mx::array handle(array.shape(), array.dtype(), nullptr, {});
  handle.set_data(array.data_shared_ptr()->buffer, array.data_size(), array.strides(), array.flags(), array.offset(),
                  [owner = std::move(owner)](mx::allocator::Buffer) {});
  // A GPU's stream works in order. MLX would ask the driver all the same whether the event has come, for every layer.
  const auto& event = array.event();
  const bool comes_in_order = event.valid() && stream.device == mx::Device::gpu && event.stream() == stream;
  if (event.valid() && !comes_in_order) {
    handle.attach_event(event);
  }
  handle.set_status(comes_in_order ? mx::array::Status::available : array.status());
  return handle;
}

// Null stands for the default device's default stream.
mx::Stream stream_or_default(mlx_stream stream) {
  return mx::to_stream(stream.ctx ? mx::StreamOrDevice(mlx_stream_get_(stream)) : mx::StreamOrDevice{});
}

bool is_scheduled(const mx::array& array) {
  return array.status() != mx::array::Status::unscheduled && array.data_shared_ptr() != nullptr;
}

}  // namespace

extern "C" bool mlx_custom_append(mlx_array buffer, mlx_array owner, mlx_array added, int32_t axis, int32_t len,
                                  mlx_stream stream, mlx_array* result, bool* owns,
                                  mlx_custom_text report, void* report_context) {
  return guarded(report, report_context, [&] {
    const auto& from = mlx_array_get_(buffer);
    const auto& update = mlx_array_get_(added);
    mx::Shape start(from.ndim(), 0);
    mx::Shape stop = from.shape();
    start.at(axis) = len;
    stop.at(axis) = len + update.shape(axis);
    *owns = false;
    const mx::Stream where = stream_or_default(stream);
    const auto append = [&](const mx::array& memory) {
      *result = mlx_array_new_(mx::slice_update(memory, update, start, stop, where));
    };
    if (!is_scheduled(from)) {
      append(from);
      return;
    }
    const auto& data = from.data_shared_ptr();
    const auto owned = owner.ctx ? mlx_array_get_(owner).data_shared_ptr() : nullptr;
    // Always the one that had the memory first: handles that hold each other would form a chain as long as the text.
    const bool is_known = owned && owned->buffer.ptr() == data->buffer.ptr();
    append(under_new_handle(from, is_known ? owned : data, where));
    *owns = !is_known;
  });
}
