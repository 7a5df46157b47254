// Threadgroup memory, and copies to it.

namespace emu {

// In checked mode an array lies in the middle of an address range of its own, so that an address near it, on either
// side, can be told to be meant for it.
inline Array* new_threadgroup_array(Fiber* fiber, uint32_t number, const char* name, uint64_t n_bytes,
                                    uint32_t index_bytes, uint32_t element_bytes) {
  Worker* worker = fiber->worker;
  const uint64_t range = uint64_t(1) << worker->memory->threadgroup_shift;
  if (number >= MAX_THREADGROUP_ARRAYS || n_bytes > range / 2) {
    Finding finding{};
    finding.kind = TOO_MUCH_MEMORY;
    report(fiber, finding);
    abandon(fiber);
  }
  Array* array = &worker->result->threadgroup_arrays[number];
  array->name = name;
  array->start = array->origin =
      reinterpret_cast<char*>(worker->memory->threadgroup_base + number * range + range / 2);
  array->n_bytes = n_bytes;
  array->index_bytes = index_bytes;
  array->element_bytes = element_bytes;
  array->kind = THREADGROUP;
  worker->result->counters.threadgroup_memory += n_bytes;
  if (number >= worker->result->n_threadgroup_arrays) worker->result->n_threadgroup_arrays = number + 1;
  if (worker->launch->is_checked) {
    worker->cells[number] = static_cast<Cell*>(calloc(n_bytes / element_bytes + 1, sizeof(Cell)));
    if (!worker->cells[number]) abort();
  }
  return array;
}

// Does the copies of all but the last `n_pending` commits.
inline void finish_copies(Fiber* fiber, uint32_t n_pending) {
  uint32_t n_kept = 0;
  for (uint32_t i = 0; i < fiber->n_copies; ++i) {
    const Copy& copy = fiber->copies[i];
    if (copy.group + n_pending >= fiber->n_commits) {
      fiber->copies[n_kept++] = copy;
      continue;
    }
    if (fiber->worker->launch->is_checked) access<true>(copy.to, copy.n_bytes, copy.pc, false);
    __builtin_memcpy(copy.to, copy.from, copy.n_bytes);
  }
  fiber->n_copies = n_kept;
}

}  // namespace emu

EMU_RUNTIME void* emu_threadgroup_array(uint32_t number, const char* name, uint64_t n_bytes, uint32_t index_bytes,
                                        uint32_t element_bytes) {
  emu::Fiber* fiber = emu::self();
  if (number < emu::MAX_THREADGROUP_ARRAYS) {
    const emu::Array& array = fiber->worker->result->threadgroup_arrays[number];
    if (array.start) return array.start;
  }
  return emu::new_threadgroup_array(fiber, number, name, n_bytes, index_bytes, element_bytes)->start;
}

EMU_RUNTIME void emu_copy_begin(void* to, const void* from, uint32_t n_bytes) {
  emu::Fiber* fiber = emu::self();
  const auto pc = reinterpret_cast<uint64_t>(__builtin_return_address(0));
  if (fiber->worker->launch->is_checked) {
    emu::access<false>(from, n_bytes, pc, true);
    if (!emu::begin_copy(fiber, to, n_bytes, pc)) return;
  }
  if (fiber->n_copies == emu::MAX_COPIES) {
    // No more may be under way at once: the oldest commit ends early.
    emu::finish_copies(fiber, fiber->n_commits - fiber->copies[0].group - 1);
  }
  if (fiber->n_copies == emu::MAX_COPIES) {
    __builtin_memcpy(to, from, n_bytes);
    return;
  }
  fiber->copies[fiber->n_copies++] = {static_cast<char*>(to), static_cast<const char*>(from), pc, n_bytes,
                                      fiber->n_commits};
}

EMU_RUNTIME void emu_copy_commit() { ++emu::self()->n_commits; }

EMU_RUNTIME void emu_copy_wait(uint32_t n_pending) { emu::finish_copies(emu::self(), n_pending); }
