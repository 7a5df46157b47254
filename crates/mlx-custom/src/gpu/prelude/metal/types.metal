// What Metal itself lacks of the dialect that kernels are written in. MLX puts its own header in front: <metal_stdlib>,
// `using namespace metal`, `bfloat16_t`.
#include <metal_simdgroup>
#include <metal_simdgroup_matrix>

// Loads what nobody will read again soon. Metal's language has no word for it.
inline uint load_streamed(const device uint* from) { return *from; }
inline uint2 load_streamed(const device uint2* from) { return *from; }
inline uint4 load_streamed(const device uint4* from) { return *from; }

// Copies 16 bytes, aligned to 16, into threadgroup memory. Metal has no asynchronous copies in the language: the thread waits.
inline void async_copy16(threadgroup void* to, const device void* from) {
  *(threadgroup uint4*)to = *(const device uint4*)from;
}

// The same if `valid`; otherwise writes zeros and reads nothing.
inline void async_copy16(threadgroup void* to, const device void* from, bool valid) {
  *(threadgroup uint4*)to = valid ? *(const device uint4*)from : uint4(0);
}

inline void async_commit() {}

template <int N>
inline void async_wait() {}
