// What the compiler calls.

#define EMU_PC reinterpret_cast<uint64_t>(__builtin_return_address(0))
#define EMU_HOOKS(N)                                                                                      \
  EMU_RUNTIME void __tsan_read##N(void* address) { emu::access<false>(address, N, EMU_PC, true); }        \
  EMU_RUNTIME void __tsan_write##N(void* address) { emu::access<true>(address, N, EMU_PC, true); }        \
  EMU_RUNTIME void __tsan_unaligned_read##N(void* address) { emu::access<false>(address, N, EMU_PC, false); } \
  EMU_RUNTIME void __tsan_unaligned_write##N(void* address) { emu::access<true>(address, N, EMU_PC, false); } \
  EMU_RUNTIME void __tsan_volatile_read##N(void* address) { emu::access<false>(address, N, EMU_PC, true); }   \
  EMU_RUNTIME void __tsan_volatile_write##N(void* address) { emu::access<true>(address, N, EMU_PC, true); }   \
  EMU_RUNTIME void __tsan_read_write##N(void* address) {                                                  \
    emu::access<false>(address, N, EMU_PC, true);                                                         \
    emu::access<true>(address, N, EMU_PC, true);                                                          \
  }

EMU_HOOKS(1)
EMU_HOOKS(2)
EMU_HOOKS(4)
EMU_HOOKS(8)
EMU_HOOKS(16)

EMU_RUNTIME void __tsan_read_range(void* address, unsigned long n_bytes) {
  emu::access<false>(address, n_bytes, EMU_PC, false);
}
EMU_RUNTIME void __tsan_write_range(void* address, unsigned long n_bytes) {
  emu::access<true>(address, n_bytes, EMU_PC, false);
}
EMU_RUNTIME void* __tsan_memcpy(void* to, const void* from, unsigned long n_bytes) {
  emu::access<false>(from, n_bytes, EMU_PC, false);
  emu::access<true>(to, n_bytes, EMU_PC, false);
  return __builtin_memcpy(to, from, n_bytes);
}
EMU_RUNTIME void* __tsan_memmove(void* to, const void* from, unsigned long n_bytes) {
  emu::access<false>(from, n_bytes, EMU_PC, false);
  emu::access<true>(to, n_bytes, EMU_PC, false);
  return __builtin_memmove(to, from, n_bytes);
}
EMU_RUNTIME void* __tsan_memset(void* to, int value, unsigned long n_bytes) {
  emu::access<true>(to, n_bytes, EMU_PC, false);
  return __builtin_memset(to, value, n_bytes);
}
EMU_RUNTIME void __tsan_init() {}
EMU_RUNTIME void __tsan_func_entry(void*) {}
EMU_RUNTIME void __tsan_func_exit() {}

EMU_RUNTIME void emu_read(const void* address, uint64_t n_bytes) {
  if (emu::self()->worker->launch->is_checked) emu::access<false>(address, n_bytes, EMU_PC, false);
}
EMU_RUNTIME void emu_write(const void* address, uint64_t n_bytes) {
  if (emu::self()->worker->launch->is_checked) emu::access<true>(address, n_bytes, EMU_PC, false);
}
