// Barriers and SIMD-group operations.

namespace emu {

inline bool same_place(const Place& a, const Place& b) {
  return a.line == b.line && (a.file == b.file || __builtin_strcmp(a.file, b.file) == 0);
}

inline void report_divergence(Fiber* fiber, FindingKind kind, const Fiber* other) {
  Finding finding{};
  finding.kind = kind;
  finding.place = fiber->place;
  finding.other_thread = other->thread.index;
  finding.other_threadgroup = fiber->worker->group;
  finding.other_ended = other->state == State::ENDED;
  finding.other_place = other->place;
  record(fiber, finding);
}

// No fiber of the threadgroup can go on, and not all have ended.
inline void report_stuck(Worker* worker) {
  for (uint32_t i = 0; i < worker->n_threads; ++i) {
    Fiber* fiber = worker->fiber(i);
    const bool at_simd = fiber->state == State::AT_SIMD_OPERATION || fiber->state == State::AT_SIMD_BARRIER;
    if (!at_simd) continue;
    const uint32_t first = i / LANES * LANES;
    for (uint32_t j = first; j < first + worker->lanes_of(i / LANES); ++j) {
      const Fiber* other = worker->fiber(j);
      if (other->state != fiber->state || !same_place(other->place, fiber->place)) {
        return report_divergence(fiber, DIVERGED_SIMD, other);
      }
    }
  }
  for (uint32_t i = 0; i < worker->n_threads; ++i) {
    Fiber* fiber = worker->fiber(i);
    if (fiber->state != State::AT_BARRIER) continue;
    for (uint32_t j = 0; j < worker->n_threads; ++j) {
      if (worker->fiber(j)->state != State::AT_BARRIER) {
        return report_divergence(fiber, DIVERGED_BARRIER, worker->fiber(j));
      }
    }
  }
}

// Marks the fiber as waiting at a place. The launch must have said that its threads wait.
inline Fiber* arrive(State state, const char* file, uint32_t line) {
  Fiber* fiber = self();
  if (!fiber->worker->launch->uses_fibers) {
    fiber->worker->needs_fibers = true;
    abandon(fiber);
  }
  fiber->state = state;
  fiber->place = {file, line};
  return fiber;
}

// All lanes have come, but to different places: finds two of them.
__attribute__((noinline, cold)) inline void report_torn(Worker* worker, uint32_t first, uint32_t n, FindingKind kind) {
  Fiber* fiber = worker->fiber(first);
  for (uint32_t i = first + 1; i < first + n; ++i) {
    const Fiber* other = worker->fiber(i);
    if (other->state != fiber->state || !same_place(other->place, fiber->place)) {
      return report_divergence(fiber, kind, other);
    }
  }
}

// Waits for the SIMD group's other lanes. The last one to come does the work for all.
template <typename Work>
EMU_INLINE void meet_simd_group(Fiber* fiber, void* mine, Work work) {
  Worker* worker = fiber->worker;
  const uint32_t simd_group = fiber->thread.simd_group, n_lanes = worker->lanes_of(simd_group);
  worker->brought[simd_group][fiber->thread.lane] = mine;
  const uint32_t n_waiting = ++worker->n_waiting[simd_group];
  if (n_waiting == 1) {
    worker->places[simd_group] = fiber->place;
    worker->is_torn[simd_group] = false;
  } else if (!same_place(worker->places[simd_group], fiber->place)) {
    worker->is_torn[simd_group] = true;
  }
  if (n_waiting == n_lanes) {
    worker->n_waiting[simd_group] = 0;
    if (worker->is_torn[simd_group]) {
      report_torn(worker, simd_group * LANES, n_lanes, DIVERGED_SIMD);
      abandon(fiber);
    }
    work(worker, simd_group, n_lanes);
    worker->release(simd_group);
  }
  wait(fiber, simd_group);
  fiber->state = State::RUNNING;
}

}  // namespace emu

EMU_RUNTIME void emu_simd_operation(void* mine, emu::Combine combine, const char* file, uint32_t line) {
  emu::Fiber* fiber = emu::arrive(emu::State::AT_SIMD_OPERATION, file, line);
  emu::meet_simd_group(fiber, mine, [=](emu::Worker* worker, uint32_t simd_group, uint32_t n_lanes) {
    ++worker->result->counters.simd_operations;
    combine(worker->brought[simd_group], n_lanes);
  });
}

EMU_RUNTIME void emu_simd_barrier(const char* file, uint32_t line) {
  emu::Fiber* fiber = emu::arrive(emu::State::AT_SIMD_BARRIER, file, line);
  emu::meet_simd_group(fiber, nullptr, [](emu::Worker* worker, uint32_t simd_group, uint32_t) {
    ++worker->simd_epochs[simd_group];
    ++worker->result->counters.simd_barriers;
  });
}

EMU_RUNTIME void emu_barrier(const char* file, uint32_t line) {
  emu::Fiber* fiber = emu::arrive(emu::State::AT_BARRIER, file, line);
  emu::Worker* worker = fiber->worker;
  const uint32_t n_waiting = ++worker->n_at_barrier;
  if (n_waiting == 1) {
    worker->barrier_place = fiber->place;
    worker->is_barrier_torn = false;
  } else if (!emu::same_place(worker->barrier_place, fiber->place)) {
    worker->is_barrier_torn = true;
  }
  uint32_t next_group = fiber->thread.simd_group;
  if (n_waiting == worker->n_threads) {
    worker->n_at_barrier = 0;
    if (worker->is_barrier_torn) {
      emu::report_torn(worker, 0, worker->n_threads, emu::DIVERGED_BARRIER);
      emu::abandon(fiber);
    }
    ++worker->epoch;
    ++worker->result->counters.barriers;
    for (uint32_t i = 0; i < worker->n_simd_groups; ++i) {
      worker->simd_epochs[i] = 0;
      worker->release(i);
    }
    next_group = 0;
  }
  emu::wait(fiber, next_group);
  fiber->state = emu::State::RUNNING;
}

EMU_RUNTIME uint32_t emu_lane() { return emu::self()->thread.lane; }
