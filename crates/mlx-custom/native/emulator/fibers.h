// Threads of a threadgroup as fibers: each has a stack of its own, and one runs until it has to wait for others.
//
// The `Fiber` lies at the top of its stack, so the stack pointer is enough to find it: no thread-local variable.

#include <stdlib.h>

namespace emu {

enum class State : uint8_t { RUNNING, AT_BARRIER, AT_SIMD_BARRIER, AT_SIMD_OPERATION, ENDED };

struct Copy {
  char* to;
  const char* from;
  uint64_t pc;
  uint32_t n_bytes;
  uint32_t group;  // the number of commits before it
};

constexpr uint32_t MAX_COPIES = 64;

struct Worker;

struct alignas(64) Fiber {
  Worker* worker;
  char* stack;  // lowest byte
  void* saved;  // where it stopped
  Place place;  // where it waits
  State state;
  Thread thread;
  uint32_t n_copies, n_commits;
  Copy copies[MAX_COPIES];
};

// Who did something to a location in threadgroup memory and when: epoch << 32 | SIMD epoch << 16 | thread.
using Stamp = uint64_t;

// What is known about one element of threadgroup memory.
struct Cell {
  Stamp write;
  Stamp reads[2];  // two threads that read it since
  int32_t write_pc, read_pcs[2];
};

// One processor's share of a launch: runs threadgroups one after another.
struct Worker {
  const Launch* launch;
  const WorkerMemory* memory;
  WorkerResult* result;
  void* main;  // the stack that called `emu_run`
  uint64_t group;
  uint32_t n_threads, n_simd_groups;
  uint32_t n_at_barrier, n_ended;
  uint32_t ready_groups;        // bit i: `ready[i]` is not 0
  uint32_t ready[LANES];        // per SIMD group: lanes that can go on
  uint32_t n_waiting[LANES];    // per SIMD group: lanes that wait at a SIMD-group operation or barrier
  bool is_torn[LANES];          // per SIMD group: they wait at different ones
  bool is_barrier_torn;         // threads wait at different threadgroup barriers
  Place barrier_place;          // where the first one waits
  Place places[LANES];          // per SIMD group: where the first lane waits
  void* brought[LANES][LANES];  // per SIMD group and lane: what it brings to an operation
  uint32_t epoch;               // threadgroup barriers so far; never goes back
  uint32_t group_epoch;         // the epoch in which this threadgroup began
  uint16_t simd_epochs[LANES];  // simdgroup barriers since the last threadgroup barrier
  bool is_abandoned;            // the threadgroup can't go on
  bool needs_fibers;            // it waits though the launch said that it doesn't
  bool stop;
  uint64_t group_findings;
  uint64_t device_bytes, threadgroup_bytes;  // lengths of the address ranges
  Cell* cells[MAX_THREADGROUP_ARRAYS];

  Fiber* fiber(uint32_t i) const {
    return reinterpret_cast<Fiber*>(memory->stacks + (i + 1) * STACK_BYTES - sizeof(Fiber));
  }

  uint32_t lanes_of(uint32_t simd_group) const {
    const uint32_t n_before = simd_group * LANES;
    return n_threads - n_before < LANES ? n_threads - n_before : LANES;
  }

  // Lets all lanes of a SIMD group go on.
  void release(uint32_t simd_group) {
    const uint32_t n_lanes = lanes_of(simd_group);
    ready[simd_group] = n_lanes == LANES ? ~0u : (1u << n_lanes) - 1;
    ready_groups |= 1u << simd_group;
  }

  // A fiber that can go on, if possible of this SIMD group.
  Fiber* take_ready(uint32_t simd_group) {
    if (!ready[simd_group]) {
      if (!ready_groups) return nullptr;
      simd_group = uint32_t(__builtin_ctz(ready_groups));
    }
    const uint32_t lane = uint32_t(__builtin_ctz(ready[simd_group]));
    ready[simd_group] &= ready[simd_group] - 1;
    if (!ready[simd_group]) ready_groups &= ~(1u << simd_group);
    return fiber(simd_group * LANES + lane);
  }
};

EMU_INLINE Fiber* self() {
#if defined(__x86_64__)
  uintptr_t here;
  __asm__("movq %%rsp, %0" : "=r"(here));
#elif defined(__aarch64__)
  uintptr_t here;
  __asm__("mov %0, sp" : "=r"(here));
#else
  const auto here = reinterpret_cast<uintptr_t>(__builtin_frame_address(0));
#endif
  return reinterpret_cast<Fiber*>((here | (STACK_BYTES - 1)) + 1 - sizeof(Fiber));
}

// Leaves the fiber until it is its turn among those that are ready; the first ones of `simd_group` go before others.
inline void wait(Fiber* fiber, uint32_t simd_group) {
  Worker* worker = fiber->worker;
  Fiber* next = worker->take_ready(simd_group);
  if (next == fiber) return;
  emu_switch(&fiber->saved, next ? next->saved : worker->main);
}

// Leaves the fiber for good; the threadgroup is over.
[[noreturn]] inline void abandon(Fiber* fiber) {
  fiber->worker->is_abandoned = true;
  emu_switch(&fiber->saved, fiber->worker->main);
  __builtin_unreachable();
}

}  // namespace emu
