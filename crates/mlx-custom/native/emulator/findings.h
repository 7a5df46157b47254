// What the emulator has to say about a kernel. Each worker keeps its first finding and counts the others.

namespace emu {

constexpr uint64_t MAX_FINDINGS_OF_A_GROUP = 1000;

inline void record(Fiber* fiber, const Finding& finding) {
  Worker* worker = fiber->worker;
  WorkerResult* result = worker->result;
  ++worker->group_findings;
  if (result->n_findings++ == 0) {
    result->first = finding;
    result->first.thread = fiber->thread.index;
    result->first.threadgroup = worker->group;
  }
}

// Called by the fiber itself, which ends here if the threadgroup has been wrong too often.
inline void report(Fiber* fiber, const Finding& finding) {
  record(fiber, finding);
  if (fiber->worker->group_findings >= MAX_FINDINGS_OF_A_GROUP) {
    fiber->worker->stop = true;
    abandon(fiber);
  }
}

// Program counters are kept in 32 bits, as the distance from a function of this library.
inline int32_t short_pc(uint64_t pc) { return int32_t(pc - reinterpret_cast<uint64_t>(&emu_run)); }
inline uint64_t long_pc(int32_t pc) { return reinterpret_cast<uint64_t>(&emu_run) + int64_t(pc); }

}  // namespace emu
