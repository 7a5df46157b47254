// Barriers and SIMD-group operations: where threads wait for each other.

enum class mem_flags : uint { mem_none = 0, mem_device = 1, mem_threadgroup = 2, mem_texture = 4 };
EMU_INLINE constexpr mem_flags operator|(mem_flags a, mem_flags b) { return mem_flags(uint(a) | uint(b)); }

EMU_INLINE void threadgroup_barrier(mem_flags, const char* file = __builtin_FILE(), uint line = __builtin_LINE()) {
  emu_barrier(file, line);
}

EMU_INLINE void simdgroup_barrier(mem_flags, const char* file = __builtin_FILE(), uint line = __builtin_LINE()) {
  emu_simd_barrier(file, line);
}

namespace emu {

// Not watched: they look at the other lanes' variables, which only the emulator may.
#define EMU_UNWATCHED __attribute__((no_sanitize("thread")))

// Pairs at distance 16, then 8, 4, 2, 1: the order in which shuffles add up on a GPU.
template <typename T, typename Op>
EMU_UNWATCHED void reduce(void* const* lanes, uint32_t n_lanes) {
  T values[LANES];
  for (uint32_t i = 0; i < n_lanes; ++i) __builtin_memcpy(&values[i], lanes[i], sizeof(T));
  for (uint32_t distance = LANES / 2; distance > 0; distance /= 2) {
    for (uint32_t i = 0; i < distance && i + distance < n_lanes; ++i) values[i] = Op::apply(values[i], values[i + distance]);
  }
  for (uint32_t i = 0; i < n_lanes; ++i) __builtin_memcpy(lanes[i], &values[0], sizeof(T));
}

struct Sum {
  template <typename T>
  EMU_UNWATCHED static EMU_INLINE T apply(T a, T b) { return T(a + b); }
};
struct Product {
  template <typename T>
  EMU_UNWATCHED static EMU_INLINE T apply(T a, T b) { return T(a * b); }
};
struct Max {
  template <typename T>
  EMU_UNWATCHED static EMU_INLINE T apply(T a, T b) { return metal::max(a, b); }
};
struct Min {
  template <typename T>
  EMU_UNWATCHED static EMU_INLINE T apply(T a, T b) { return metal::min(a, b); }
};
struct And {
  template <typename T>
  EMU_UNWATCHED static EMU_INLINE T apply(T a, T b) { return a & b; }
};
struct Or {
  template <typename T>
  EMU_UNWATCHED static EMU_INLINE T apply(T a, T b) { return a | b; }
};

template <typename Op, typename T>
EMU_INLINE T simd_reduce(T value, const char* file, uint line) {
  emu_simd_operation(&value, reduce<T, Op>, file, line);
  return value;
}

template <typename T>
struct Shuffle {
  T value;
  uint32_t from;
};

// What a lane takes from a lane that doesn't exist is undefined in Metal; here it keeps its own value.
template <typename T>
EMU_UNWATCHED void shuffle(void* const* lanes, uint32_t n_lanes) {
  Shuffle<T> all[LANES];
  for (uint32_t i = 0; i < n_lanes; ++i) __builtin_memcpy(&all[i], lanes[i], sizeof(Shuffle<T>));
  for (uint32_t i = 0; i < n_lanes; ++i) {
    const uint32_t from = all[i].from < n_lanes ? all[i].from : i;
    __builtin_memcpy(lanes[i], &all[from].value, sizeof(T));
  }
}

template <typename T>
EMU_INLINE T simd_shuffle_from(T value, uint32_t from, const char* file, uint line) {
  Shuffle<T> mine{value, from};
  emu_simd_operation(&mine, shuffle<T>, file, line);
  return mine.value;
}

EMU_RUNTIME uint32_t emu_lane();

}  // namespace emu

namespace metal {

#define EMU_PLACE const char *file = __builtin_FILE(), uint line = __builtin_LINE()

template <typename T>
EMU_INLINE T simd_sum(T value, EMU_PLACE) { return emu::simd_reduce<emu::Sum>(value, file, line); }
template <typename T>
EMU_INLINE T simd_product(T value, EMU_PLACE) { return emu::simd_reduce<emu::Product>(value, file, line); }
template <typename T>
EMU_INLINE T simd_max(T value, EMU_PLACE) { return emu::simd_reduce<emu::Max>(value, file, line); }
template <typename T>
EMU_INLINE T simd_min(T value, EMU_PLACE) { return emu::simd_reduce<emu::Min>(value, file, line); }
EMU_INLINE bool simd_all(bool value, EMU_PLACE) { return emu::simd_reduce<emu::And>(uint(value), file, line); }
EMU_INLINE bool simd_any(bool value, EMU_PLACE) { return emu::simd_reduce<emu::Or>(uint(value), file, line); }

template <typename T>
EMU_INLINE T simd_shuffle(T value, ushort lane, EMU_PLACE) {
  return emu::simd_shuffle_from(value, lane, file, line);
}
template <typename T>
EMU_INLINE T simd_broadcast(T value, ushort lane, EMU_PLACE) {
  return emu::simd_shuffle_from(value, lane, file, line);
}
template <typename T>
EMU_INLINE T simd_broadcast_first(T value, EMU_PLACE) { return emu::simd_shuffle_from(value, 0, file, line); }
template <typename T>
EMU_INLINE T simd_shuffle_xor(T value, ushort mask, EMU_PLACE) {
  return emu::simd_shuffle_from(value, emu::emu_lane() ^ mask, file, line);
}
template <typename T>
EMU_INLINE T simd_shuffle_down(T value, ushort distance, EMU_PLACE) {
  return emu::simd_shuffle_from(value, emu::emu_lane() + distance, file, line);
}
template <typename T>
EMU_INLINE T simd_shuffle_up(T value, ushort distance, EMU_PLACE) {
  return emu::simd_shuffle_from(value, emu::emu_lane() - distance, file, line);
}

}  // namespace metal
