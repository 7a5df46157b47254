// The launch: threadgroups one after another on this processor, until all workers together have run all of them.

namespace emu {

inline void set_thread(Thread& thread, const Launch& launch, uint64_t group, uint32_t index) {
  const uint32_t group_position[3] = {uint32_t(group % launch.threadgroups[0]),
                                      uint32_t(group / launch.threadgroups[0] % launch.threadgroups[1]),
                                      uint32_t(group / launch.threadgroups[0] / launch.threadgroups[1])};
  const uint32_t position[3] = {index % launch.threads[0], index / launch.threads[0] % launch.threads[1],
                                index / launch.threads[0] / launch.threads[1]};
  for (int axis = 0; axis < 3; ++axis) {
    thread.threadgroup_position[axis] = group_position[axis];
    thread.position_in_threadgroup[axis] = position[axis];
    thread.position_in_grid[axis] = group_position[axis] * launch.threads[axis] + position[axis];
  }
}

inline void set_constants(Thread& thread, const Launch& launch, uint32_t index) {
  uint32_t n_threads = 1;
  for (int axis = 0; axis < 3; ++axis) {
    thread.threads_per_grid[axis] = launch.threadgroups[axis] * launch.threads[axis];
    thread.threadgroups[axis] = launch.threadgroups[axis];
    thread.threads_per_threadgroup[axis] = launch.threads[axis];
    n_threads *= launch.threads[axis];
  }
  thread.index = index;
  thread.lane = index % LANES;
  thread.simd_group = index / LANES;
  thread.n_simd_groups = (n_threads + LANES - 1) / LANES;
}

// A fiber's life: its thread of one threadgroup after another.
inline void fiber_life() {
  for (;;) {
    Fiber* fiber = self();
    Worker* worker = fiber->worker;
    worker->launch->entry(fiber->thread, worker->launch->arguments);
    fiber->state = State::ENDED;
    ++worker->n_ended;
    wait(fiber, fiber->thread.simd_group);
  }
}

// Where no thread waits for another: all threads of a threadgroup, one after another, on one stack.
inline void plain_life() {
  for (;;) {
    Fiber* fiber = self();
    Worker* worker = fiber->worker;
    const Launch& launch = *worker->launch;
    Thread& thread = fiber->thread;
    for (uint32_t i = 0; i < worker->n_threads; ++i) {
      thread.index = i;
      thread.lane = i % LANES;
      thread.simd_group = i / LANES;
      fiber->n_copies = fiber->n_commits = 0;
      launch.entry(thread, launch.arguments);
      // The next thread's position: x counts fastest.
      for (int axis = 0; axis < 3; ++axis) {
        ++thread.position_in_grid[axis];
        if (++thread.position_in_threadgroup[axis] < launch.threads[axis]) break;
        thread.position_in_grid[axis] -= launch.threads[axis];
        thread.position_in_threadgroup[axis] = 0;
      }
    }
    worker->n_ended = worker->n_threads;
    emu_switch(&fiber->saved, worker->main);
  }
}

inline void prepare(Worker* worker) {
  const Launch& launch = *worker->launch;
  const uint32_t n_fibers = launch.uses_fibers ? worker->n_threads : 1;
  for (uint32_t i = 0; i < n_fibers; ++i) {
    Fiber* fiber = worker->fiber(i);
    fiber->worker = worker;
    fiber->stack = worker->memory->stacks + i * STACK_BYTES;
    set_constants(fiber->thread, launch, i);
    // Stacks that began at the same distance from their ends would compete for the same few lines of the caches.
    char* top = reinterpret_cast<char*>(fiber) - (i % 61) * 192;
    fiber->saved = prepare_stack(top, launch.uses_fibers ? fiber_life : plain_life);
  }
}

inline void run_group(Worker* worker, uint64_t group) {
  const Launch& launch = *worker->launch;
  worker->group = group;
  worker->group_findings = 0;
  worker->n_at_barrier = worker->n_ended = 0;
  worker->group_epoch = ++worker->epoch;
  worker->ready_groups = 0;
  for (uint32_t i = 0; i < worker->n_simd_groups; ++i) worker->n_waiting[i] = worker->simd_epochs[i] = worker->ready[i] = 0;
  const uint32_t n_fibers = launch.uses_fibers ? worker->n_threads : 1;
  for (uint32_t i = 0; i < n_fibers; ++i) {
    Fiber* fiber = worker->fiber(i);
    set_thread(fiber->thread, launch, group, i);
    fiber->state = State::RUNNING;
    fiber->n_copies = fiber->n_commits = 0;
  }
  if (launch.uses_fibers) {
    for (uint32_t i = 0; i < worker->n_simd_groups; ++i) worker->release(i);
    emu_switch(&worker->main, worker->take_ready(0)->saved);
  } else {
    emu_switch(&worker->main, worker->fiber(0)->saved);
  }
  if (!worker->is_abandoned && worker->n_ended < worker->n_threads) {
    report_stuck(worker);
    worker->is_abandoned = true;
  }
  if (worker->is_abandoned) {
    prepare(worker);  // fibers stopped somewhere inside
    worker->is_abandoned = false;
  }
}

}  // namespace emu

EMU_EXPORT int32_t emu_run(const emu::Launch* launch, const emu::WorkerMemory* memory, uint64_t* next,
                           emu::WorkerResult* result) {
  emu::Worker worker{};
  worker.launch = launch;
  worker.memory = memory;
  worker.result = result;
  worker.n_threads = launch->threads[0] * launch->threads[1] * launch->threads[2];
  worker.n_simd_groups = (worker.n_threads + emu::LANES - 1) / emu::LANES;
  worker.device_bytes = uint64_t(launch->n_arrays) << launch->shift;
  worker.threadgroup_bytes = uint64_t(emu::MAX_THREADGROUP_ARRAYS) << memory->threadgroup_shift;
  emu::prepare(&worker);
  const uint64_t n_groups =
      uint64_t(launch->threadgroups[0]) * launch->threadgroups[1] * launch->threadgroups[2];
  while (!worker.stop && !worker.needs_fibers) {
    const uint64_t group = __atomic_fetch_add(next, 1, __ATOMIC_RELAXED);
    if (group >= n_groups) break;
    emu::run_group(&worker, group);
  }
  // After that many findings nobody needs to go on.
  if (worker.stop || worker.needs_fibers) __atomic_store_n(next, n_groups, __ATOMIC_RELAXED);
  for (emu::Cell* cells : worker.cells) free(cells);
  return worker.needs_fibers ? 1 : 0;
}
