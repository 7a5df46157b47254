// Asynchronous copies from device to threadgroup memory. The bytes move in `async_wait` and not before, so that a
// kernel that reads them without waiting is found out.

EMU_INLINE void async_copy16(void* to, const void* from) { emu_copy_begin(to, from, 16); }
// The same if `valid`; otherwise writes zeros and reads nothing.
EMU_INLINE void async_copy16(void* to, const void* from, bool valid) {
  if (valid) {
    async_copy16(to, from);
  } else {
    *static_cast<uint4*>(to) = uint4(0);
  }
}
EMU_INLINE void async_commit() { emu_copy_commit(); }
// Waits until at most N of the groups that this thread committed are under way.
template <int N>
EMU_INLINE void async_wait() { emu_copy_wait(N); }

// Loads what nobody will read again soon. There is no cache here to be spared.
EMU_INLINE uint load_streamed(const uint* from) { return *from; }
EMU_INLINE uint2 load_streamed(const uint2* from) { return *from; }
EMU_INLINE uint4 load_streamed(const uint4* from) { return *from; }
