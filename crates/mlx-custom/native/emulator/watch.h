// Looks at every access to memory before it happens. The compiler calls `__tsan_read4` and its siblings because kernels are
// compiled with `-fsanitize=thread`; these functions here take the place of the compiler's own library.

namespace emu {

inline Stamp stamp_of(const Fiber* fiber) {
  const Worker* worker = fiber->worker;
  return Stamp(worker->epoch) << 32 | Stamp(worker->simd_epochs[fiber->thread.simd_group]) << 16 | fiber->thread.index;
}

inline uint32_t epoch_of(Stamp stamp) { return uint32_t(stamp >> 32); }
inline uint32_t thread_of(Stamp stamp) { return uint32_t(stamp & 0xffff); }

// Whether what `before` stands for and what `now` stands for may happen in either order.
inline bool unordered(Stamp before, Stamp now) {
  if (epoch_of(before) != epoch_of(now) || thread_of(before) == thread_of(now)) return false;
  const bool one_simd_group = thread_of(before) / LANES == thread_of(now) / LANES;
  return !one_simd_group || uint16_t(before >> 16) == uint16_t(now >> 16);
}

// Findings are rare: kept out of the way of what runs for every access.
#define EMU_COLD __attribute__((noinline, cold)) inline

EMU_COLD void found(Fiber* fiber, FindingKind kind, uint32_t array, int64_t offset, uint64_t n_bytes, uint64_t pc) {
  Finding finding{};
  finding.kind = kind;
  finding.array = array;
  finding.offset = offset;
  finding.n_bytes = uint32_t(n_bytes);
  finding.pc = pc;
  report(fiber, finding);
}

// What another thread did before.
struct Earlier {
  uint32_t thread;
  uint64_t threadgroup;
  int32_t pc;
};

EMU_COLD void found_race(Fiber* fiber, FindingKind kind, uint32_t array, int64_t offset, uint64_t n_bytes, uint64_t pc,
                         Earlier earlier) {
  Finding finding{};
  finding.kind = kind;
  finding.array = array;
  finding.offset = offset;
  finding.n_bytes = uint32_t(n_bytes);
  finding.pc = pc;
  finding.other_thread = earlier.thread;
  finding.other_threadgroup = earlier.threadgroup;
  finding.other_pc = long_pc(earlier.pc);
  report(fiber, finding);
}

EMU_COLD void out_of_bounds(Fiber* fiber, bool is_write, uint32_t number, const Array& array, uint64_t address,
                            uint64_t n_bytes, uint64_t pc) {
  const auto offset = int64_t(address - reinterpret_cast<uint64_t>(array.origin));
  found(fiber, is_write ? OUT_OF_BOUNDS_WRITE : OUT_OF_BOUNDS_READ, number, offset, n_bytes, pc);
}

// Of the first SIMD group it is kept how its lanes' accesses fall together.
inline bool is_recorded(const Fiber* fiber) { return fiber->worker->group == 0 && fiber->thread.simd_group == 0; }

EMU_COLD void record_access(Fiber* fiber, uint64_t address, uint64_t n_bytes, uint64_t pc, bool is_threadgroup) {
  WorkerResult* result = fiber->worker->result;
  const WorkerMemory* memory = fiber->worker->memory;
  if (result->n_accesses >= memory->max_accesses) return;
  memory->accesses[result->n_accesses++] = {address, pc, uint32_t(n_bytes), uint16_t(fiber->thread.index),
                                            uint16_t(is_threadgroup)};
}

// The word that says who wrote an element of an output: threadgroup + 1, barriers since its start, thread.
inline uint64_t writer_of(const Fiber* fiber) {
  const Worker* worker = fiber->worker;
  const uint32_t epoch = worker->epoch - worker->group_epoch;
  return (worker->group + 1) << 32 | uint64_t(epoch < 0xffff ? epoch : 0xffff) << 16 | fiber->thread.index;
}

// Says what is wrong, if anything is, about an element that somebody wrote before.
EMU_COLD void judge_output(Fiber* fiber, bool is_write, uint32_t number, const Array& array, uint64_t i, uint64_t before,
                           int32_t before_pc, uint64_t pc) {
  const int64_t at = array.start - array.origin + int64_t(i * array.element_bytes);
  const uint64_t now = writer_of(fiber);
  if (before == 0) {
    if (!is_write && !array.is_filled) found(fiber, UNWRITTEN_READ, number, at, array.element_bytes, pc);
    return;
  }
  const Earlier earlier{uint32_t(before & 0xffff), (before >> 32) - 1, before_pc};
  if (before >> 32 != now >> 32) {
    found_race(fiber, is_write ? GROUPS_WRITE_RACE : GROUPS_READ_RACE, number, at, array.element_bytes, pc, earlier);
  } else if (before >> 16 == now >> 16 && earlier.thread != fiber->thread.index) {
    // Barriers of their SIMD group may have put the two in order.
    const bool one_simd_group = earlier.thread / LANES == fiber->thread.simd_group;
    if (one_simd_group && fiber->worker->simd_epochs[fiber->thread.simd_group] > 0) return;
    found_race(fiber, is_write ? WRITE_WRITE_RACE : WRITE_READ_RACE, number, at, array.element_bytes, pc, earlier);
  }
}

template <bool WRITE>
inline void watch_output(Fiber* fiber, uint32_t number, Array& array, uint64_t offset, uint64_t n_bytes, uint64_t pc) {
  const uint64_t now = writer_of(fiber);
  const uint64_t end = (offset + n_bytes + array.element_bytes - 1) / array.element_bytes;
  for (uint64_t i = offset / array.element_bytes; i < end; ++i) {
    const uint64_t before = WRITE ? __atomic_exchange_n(&array.writers[i], now, __ATOMIC_RELAXED)
                                  : __atomic_load_n(&array.writers[i], __ATOMIC_RELAXED);
    const bool is_fine = WRITE ? before == 0 : before == now;
    if (!is_fine) {
      const auto before_pc = int32_t(__atomic_load_n(&array.writer_pcs[i], __ATOMIC_RELAXED));
      judge_output(fiber, WRITE, number, array, i, before, before_pc, pc);
    }
    if (WRITE) __atomic_store_n(&array.writer_pcs[i], uint32_t(short_pc(pc)), __ATOMIC_RELAXED);
  }
}

inline void watch_read(Fiber* fiber, uint32_t number, const Array& array, Cell& cell, Stamp now, int64_t at, uint64_t pc) {
  if (__builtin_expect(epoch_of(cell.write) < fiber->worker->group_epoch, false)) {
    found(fiber, UNWRITTEN_READ, number, at, array.element_bytes, pc);
  } else if (__builtin_expect(unordered(cell.write, now), false)) {
    found_race(fiber, WRITE_READ_RACE, number, at, array.element_bytes, pc,
               {thread_of(cell.write), fiber->worker->group, cell.write_pc});
  }
  // Of more than two readers any two do: a writer is another thread than one of them.
  const bool again = thread_of(cell.reads[0]) == thread_of(now) || epoch_of(cell.reads[0]) != epoch_of(now);
  cell.reads[again ? 0 : 1] = now;
  cell.read_pcs[again ? 0 : 1] = short_pc(pc);
}

// Whether anybody else used the element since the last barrier.
inline void watch_for_others(Fiber* fiber, uint32_t number, const Array& array, const Cell& cell, Stamp now, int64_t at,
                             uint64_t pc) {
  const uint64_t group = fiber->worker->group;
  if (__builtin_expect(unordered(cell.write, now), false)) {
    found_race(fiber, WRITE_WRITE_RACE, number, at, array.element_bytes, pc,
               {thread_of(cell.write), group, cell.write_pc});
  } else {
    for (int i = 0; i < 2; ++i) {
      if (__builtin_expect(!unordered(cell.reads[i], now), true)) continue;
      found_race(fiber, READ_WRITE_RACE, number, at, array.element_bytes, pc,
                 {thread_of(cell.reads[i]), group, cell.read_pcs[i]});
      break;
    }
  }
}

inline void watch_write(Fiber* fiber, uint32_t number, const Array& array, Cell& cell, Stamp now, int64_t at, uint64_t pc) {
  watch_for_others(fiber, number, array, cell, now, at, pc);
  cell.write = now;
  cell.write_pc = short_pc(pc);
}

template <bool WRITE>
inline void access_device(Fiber* fiber, uint64_t address, uint64_t n_bytes, uint64_t pc) {
  Worker* worker = fiber->worker;
  const auto number = uint32_t((address - worker->launch->base) >> worker->launch->shift);
  Array& array = worker->launch->arrays[number];
  const uint64_t offset = address - reinterpret_cast<uint64_t>(array.start);
  if (__builtin_expect(offset > array.n_bytes || n_bytes > array.n_bytes - offset, false)) {
    return out_of_bounds(fiber, WRITE, number, array, address, n_bytes, pc);
  }
  (WRITE ? worker->result->counters.device_written : worker->result->counters.device_read) += n_bytes;
  for (uint64_t word = offset / 4; word <= (offset + n_bytes - 1) / 4; ++word) {
    // Another worker's bit may be lost, if it reads what this one writes: it is a statistic.
    const uint8_t bit = WRITE ? 2 : 1, seen = __atomic_load_n(&array.touched[word], __ATOMIC_RELAXED);
    if (!(seen & bit)) __atomic_store_n(&array.touched[word], uint8_t(seen | bit), __ATOMIC_RELAXED);
  }
  if (is_recorded(fiber)) record_access(fiber, address, n_bytes, pc, false);
  if (array.kind == OUTPUT) {
    watch_output<WRITE>(fiber, number, array, offset, n_bytes, pc);
  } else if (WRITE) {
    found(fiber, WRITE_TO_INPUT, number, int64_t(address - reinterpret_cast<uint64_t>(array.origin)), n_bytes, pc);
  }
}

template <bool WRITE>
inline void access_threadgroup(Fiber* fiber, uint64_t address, uint64_t n_bytes, uint64_t pc) {
  Worker* worker = fiber->worker;
  const auto number = uint32_t((address - worker->memory->threadgroup_base) >> worker->memory->threadgroup_shift);
  const Array& array = worker->result->threadgroup_arrays[number];
  const uint64_t offset = address - reinterpret_cast<uint64_t>(array.start);
  const uint32_t reported_number = worker->launch->n_arrays + number;
  if (__builtin_expect(offset > array.n_bytes || n_bytes > array.n_bytes - offset, false)) {
    return out_of_bounds(fiber, WRITE, reported_number, array, address, n_bytes, pc);
  }
  (WRITE ? worker->result->counters.threadgroup_written : worker->result->counters.threadgroup_read) += n_bytes;
  if (is_recorded(fiber)) record_access(fiber, address, n_bytes, pc, true);
  const uint32_t element_bytes = array.element_bytes;
  // Parts of an element are not told apart.
  if (n_bytes < element_bytes && !WRITE) return;
  const Stamp now = stamp_of(fiber);
  const uint64_t end = (offset + n_bytes + element_bytes - 1) / element_bytes;
  for (uint64_t i = offset / element_bytes; i < end; ++i) {
    Cell& cell = worker->cells[number][i];
    if (n_bytes < element_bytes) {
      // Written, and too early for a race.
      cell.write = Stamp(worker->group_epoch) << 32 | fiber->thread.index;
    } else if (WRITE) {
      watch_write(fiber, reported_number, array, cell, now, int64_t(i * element_bytes), pc);
    } else {
      watch_read(fiber, reported_number, array, cell, now, int64_t(i * element_bytes), pc);
    }
  }
}

// Near null, or nothing that a pointer can be. Other addresses outside of the kernel's arrays are variables of this or
// another fiber and constants of the program.
inline bool is_wild(uint64_t address) { return address < 65536 || address >> 48 != 0; }

EMU_COLD void misaligned(Fiber* fiber, uint64_t address, uint64_t n_bytes, uint64_t pc) {
  const Worker* worker = fiber->worker;
  const uint64_t in_device = address - worker->launch->base;
  const uint64_t in_threadgroup = address - worker->memory->threadgroup_base;
  uint32_t number = 0;
  const Array* array = nullptr;
  if (in_device < worker->device_bytes) {
    number = uint32_t(in_device >> worker->launch->shift);
    array = &worker->launch->arrays[number];
  } else if (in_threadgroup < worker->threadgroup_bytes) {
    number = uint32_t(in_threadgroup >> worker->memory->threadgroup_shift);
    array = &worker->result->threadgroup_arrays[number];
    number += worker->launch->n_arrays;
  } else {
    return;
  }
  const auto offset = int64_t(address - reinterpret_cast<uint64_t>(array->origin));
  found(fiber, MISALIGNED, number, offset, n_bytes, pc);
  // The processor's own wide loads may fault there.
  if (n_bytes >= 16) abandon(fiber);
}

// A copy will write there at some time before it is waited for. Until then the memory holds nothing that may be read.
// False if it can't write there.
inline bool begin_copy(Fiber* fiber, const void* to, uint64_t n_bytes, uint64_t pc) {
  const Worker* worker = fiber->worker;
  const auto address = reinterpret_cast<uint64_t>(to);
  const uint64_t in_threadgroup = address - worker->memory->threadgroup_base;
  if (in_threadgroup >= worker->threadgroup_bytes) {
    found(fiber, WILD_POINTER, 0, int64_t(address), n_bytes, pc);
    return false;
  }
  if (address & (n_bytes - 1)) misaligned(fiber, address, n_bytes, pc);
  const auto number = uint32_t(in_threadgroup >> worker->memory->threadgroup_shift);
  const Array& array = worker->result->threadgroup_arrays[number];
  const uint32_t reported_number = worker->launch->n_arrays + number;
  const uint64_t offset = address - reinterpret_cast<uint64_t>(array.start);
  if (offset > array.n_bytes || n_bytes > array.n_bytes - offset) {
    out_of_bounds(fiber, true, reported_number, array, address, n_bytes, pc);
    return false;
  }
  const Stamp now = stamp_of(fiber);
  for (uint64_t i = offset / array.element_bytes; i * array.element_bytes < offset + n_bytes; ++i) {
    Cell& cell = worker->cells[number][i];
    watch_for_others(fiber, reported_number, array, cell, now, int64_t(i * array.element_bytes), pc);
    cell.write = 0;
  }
  return true;
}

template <bool WRITE>
EMU_INLINE void access(const void* pointer, uint64_t n_bytes, uint64_t pc, bool aligned) {
  Fiber* fiber = self();
  const auto address = reinterpret_cast<uint64_t>(pointer);
  if (address - reinterpret_cast<uint64_t>(fiber->stack) < STACK_BYTES || n_bytes == 0) return;
  const Worker* worker = fiber->worker;
  if (aligned && __builtin_expect((address & (n_bytes - 1)) != 0, false)) misaligned(fiber, address, n_bytes, pc);
  if (address - worker->launch->base < worker->device_bytes) {
    access_device<WRITE>(fiber, address, n_bytes, pc);
  } else if (address - worker->memory->threadgroup_base < worker->threadgroup_bytes) {
    access_threadgroup<WRITE>(fiber, address, n_bytes, pc);
  } else if (is_wild(address)) {
    found(fiber, WILD_POINTER, 0, int64_t(address), n_bytes, pc);
    abandon(fiber);
  }
}

}  // namespace emu
