// SIMD groups are warps: both have 32 threads. All 32 take part in each function.
namespace mlx::core::cu {
namespace metal {

enum class mem_flags { mem_none = 0, mem_device = 1, mem_threadgroup = 2, mem_device_and_threadgroup = 3 };
inline mem_flags operator|(mem_flags a, mem_flags b) {
  return static_cast<mem_flags>(static_cast<int>(a) | static_cast<int>(b));
}

// Both order device memory and threadgroup memory alike, whatever the flags.
inline void threadgroup_barrier(mem_flags) { __syncthreads(); }
inline void simdgroup_barrier(mem_flags) { __syncwarp(); }

constexpr uint all_lanes = 0xffffffff;

// Moves a value of any size between lanes, in words of 32 bits; `move` moves one word.
template <typename T, typename Move>
inline T move_words(const T& value, Move move) {
  if constexpr (sizeof(T) < 4) {
    uint word = 0;
    memcpy(&word, &value, sizeof(T));
    word = move(word);
    T result;
    memcpy(&result, &word, sizeof(T));
    return result;
  } else {
    static_assert(sizeof(T) % 4 == 0, "values of 1, 2, 4, 8, ... bytes");
    uint words[sizeof(T) / 4];
    memcpy(words, &value, sizeof(T));
    for (int i = 0; i < int(sizeof(T) / 4); ++i) words[i] = move(words[i]);
    T result;
    memcpy(&result, words, sizeof(T));
    return result;
  }
}

template <typename T>
inline T simd_shuffle(T value, ushort lane) {
  return move_words(value, [=](uint word) { return __shfl_sync(all_lanes, word, lane); });
}

template <typename T>
inline T simd_broadcast(T value, ushort lane) {
  return simd_shuffle(value, lane);
}

template <typename T>
inline T simd_broadcast_first(T value) {
  return simd_shuffle(value, 0);
}

template <typename T>
inline T simd_shuffle_xor(T value, ushort mask) {
  return move_words(value, [=](uint word) { return __shfl_xor_sync(all_lanes, word, mask); });
}

template <typename T>
inline T simd_shuffle_down(T value, ushort distance) {
  return move_words(value, [=](uint word) { return __shfl_down_sync(all_lanes, word, distance); });
}

template <typename T>
inline T simd_shuffle_up(T value, ushort distance) {
  return move_words(value, [=](uint word) { return __shfl_up_sync(all_lanes, word, distance); });
}

// Every lane gets the result, in the same order of additions.
template <typename T>
inline T simd_sum(T value) {
  if constexpr (is_small_float<T>) {
    return static_cast<T>(simd_sum(static_cast<float>(value)));
  } else {
    for (ushort mask = 16; mask > 0; mask /= 2) value += simd_shuffle_xor(value, mask);
    return value;
  }
}

template <typename T>
inline T simd_max(T value) {
  for (ushort mask = 16; mask > 0; mask /= 2) value = max(value, simd_shuffle_xor(value, mask));
  return value;
}

template <typename T>
inline T simd_min(T value) {
  for (ushort mask = 16; mask > 0; mask /= 2) value = min(value, simd_shuffle_xor(value, mask));
  return value;
}

inline bool simd_any(bool value) { return __any_sync(all_lanes, value); }
inline bool simd_all(bool value) { return __all_sync(all_lanes, value); }

// Loads what nobody will read again soon: past the multiprocessor's cache, where it would displace what is read again, and asks for up
// to 256 neighbouring bytes to be brought into the GPU's L2 cache. Nobody may write it while the kernel runs.
inline uint load_streamed(const uint* from) {
  uint word;
  asm("ld.global.nc.L1::no_allocate.L2::256B.u32 %0, [%1];" : "=r"(word) : "l"(from));
  return word;
}

inline uint2 load_streamed(const uint2* from) {
  uint2 words;
  asm("ld.global.nc.L1::no_allocate.L2::256B.v2.u32 {%0, %1}, [%2];" : "=r"(words.x), "=r"(words.y) : "l"(from));
  return words;
}

inline uint4 load_streamed(const uint4* from) {
  uint4 words;
  asm("ld.global.nc.L1::no_allocate.L2::256B.v4.u32 {%0, %1, %2, %3}, [%4];"
      : "=r"(words.x), "=r"(words.y), "=r"(words.z), "=r"(words.w)
      : "l"(from));
  return words;
}

// Copies 16 bytes, aligned to 16, into threadgroup memory while the thread goes on (`cp.async`).
inline void async_copy16(void* to, const void* from) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(uint(__cvta_generic_to_shared(to))), "l"(from)
               : "memory");
}

// The same if `valid`; otherwise writes zeros and reads nothing.
inline void async_copy16(void* to, const void* from, bool valid) {
  const int bytes = valid ? 16 : 0;
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(uint(__cvta_generic_to_shared(to))), "l"(from),
               "r"(bytes)
               : "memory");
}

// Closes a group of copies: all since the last commit.
inline void async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }

// Waits until at most `N` of this thread's groups are under way. A barrier makes the bytes visible to other threads.
template <int N>
inline void async_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
}

} // namespace metal
} // namespace mlx::core::cu
