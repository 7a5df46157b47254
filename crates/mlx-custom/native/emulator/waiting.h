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

// Waits for the SIMD group's other lanes. The last one to come makes sure that all came to the same place.
inline void meet_simd_group(Fiber* fiber, bool is_barrier) {
  Worker* worker = fiber->worker;
  const uint32_t simd_group = fiber->thread.simd_group, n_lanes = worker->lanes_of(simd_group);
  if (++worker->n_waiting[simd_group] < n_lanes) {
    wait(fiber);
    fiber->state = State::RUNNING;
    return;
  }
  worker->n_waiting[simd_group] = 0;
  void* lanes[LANES];
  for (uint32_t i = 0; i < n_lanes; ++i) {
    const Fiber* other = worker->fiber(simd_group * LANES + i);
    if (other->state != fiber->state || !same_place(other->place, fiber->place)) {
      Fiber* first = i == 0 ? fiber : worker->fiber(simd_group * LANES);
      report_divergence(first, DIVERGED_SIMD, first == fiber ? other : (i == 0 ? fiber : other));
      abandon(fiber);
    }
    lanes[i] = other->mine;
  }
  if (is_barrier) {
    ++worker->simd_epochs[simd_group];
    ++worker->result->counters.simd_barriers;
  } else {
    ++worker->result->counters.simd_operations;
    fiber->combine(lanes, n_lanes);
  }
  worker->release(simd_group, 1u << fiber->thread.lane);
  fiber->state = State::RUNNING;
}

}  // namespace emu

EMU_RUNTIME void emu_simd_operation(void* mine, emu::Combine combine, const char* file, uint32_t line) {
  emu::Fiber* fiber = emu::arrive(emu::State::AT_SIMD_OPERATION, file, line);
  fiber->mine = mine;
  fiber->combine = combine;
  emu::meet_simd_group(fiber, false);
}

EMU_RUNTIME void emu_simd_barrier(const char* file, uint32_t line) {
  emu::meet_simd_group(emu::arrive(emu::State::AT_SIMD_BARRIER, file, line), true);
}

EMU_RUNTIME void emu_barrier(const char* file, uint32_t line) {
  emu::Fiber* fiber = emu::arrive(emu::State::AT_BARRIER, file, line);
  emu::Worker* worker = fiber->worker;
  if (++worker->n_at_barrier < worker->n_threads) {
    emu::wait(fiber);
    fiber->state = emu::State::RUNNING;
    return;
  }
  worker->n_at_barrier = 0;
  for (uint32_t i = 0; i < worker->n_threads; ++i) {
    const emu::Fiber* other = worker->fiber(i);
    if (!emu::same_place(other->place, worker->fiber(0)->place)) {
      emu::report_divergence(worker->fiber(0), emu::DIVERGED_BARRIER, other);
      emu::abandon(fiber);
    }
  }
  ++worker->epoch;
  ++worker->result->counters.barriers;
  for (uint32_t i = 0; i < worker->n_simd_groups; ++i) {
    worker->simd_epochs[i] = 0;
    worker->release(i, i == fiber->thread.simd_group ? 1u << fiber->thread.lane : 0);
  }
  fiber->state = emu::State::RUNNING;
}

EMU_RUNTIME uint32_t emu_lane() { return emu::self()->thread.lane; }
