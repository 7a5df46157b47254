// Going from one stack to another: saves what a function must keep for its caller, and takes up where the other stopped.

#if !defined(__x86_64__) && !defined(__aarch64__)
#ifndef _XOPEN_SOURCE
#define _XOPEN_SOURCE 600
#endif
#include <ucontext.h>
#endif

namespace emu {

#if defined(__x86_64__) || defined(__aarch64__)

extern "C" __attribute__((visibility("hidden"))) void emu_switch(void** save, void* load) __asm__("emu_switch_stacks");

#if defined(__x86_64__)
// rbx, rbp, r12 to r15. The rounding mode and other modes are the same everywhere.
__asm__(R"(
.text
.p2align 4
emu_switch_stacks:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  retq
)");

// A stack on which `emu_switch` will find six registers and the address of `start`, which sees a stack as after a call.
inline void* prepare_stack(char* top, void (*start)()) {
  auto** words = reinterpret_cast<void**>(reinterpret_cast<uintptr_t>(top) & ~uintptr_t(15));
  *--words = nullptr;  // `start` has no caller
  *--words = reinterpret_cast<void*>(start);
  for (int i = 0; i < 6; ++i) *--words = nullptr;
  return words;
}
#else
// x19 to x30 and the low halves of v8 to v15.
__asm__(R"(
.text
.p2align 4
emu_switch_stacks:
  sub sp, sp, #160
  stp x19, x20, [sp, #0]
  stp x21, x22, [sp, #16]
  stp x23, x24, [sp, #32]
  stp x25, x26, [sp, #48]
  stp x27, x28, [sp, #64]
  stp x29, x30, [sp, #80]
  stp d8, d9, [sp, #96]
  stp d10, d11, [sp, #112]
  stp d12, d13, [sp, #128]
  stp d14, d15, [sp, #144]
  mov x9, sp
  str x9, [x0]
  mov sp, x1
  ldp x19, x20, [sp, #0]
  ldp x21, x22, [sp, #16]
  ldp x23, x24, [sp, #32]
  ldp x25, x26, [sp, #48]
  ldp x27, x28, [sp, #64]
  ldp x29, x30, [sp, #80]
  ldp d8, d9, [sp, #96]
  ldp d10, d11, [sp, #112]
  ldp d12, d13, [sp, #128]
  ldp d14, d15, [sp, #144]
  add sp, sp, #160
  ret
)");

inline void* prepare_stack(char* top, void (*start)()) {
  auto** words = reinterpret_cast<void**>(reinterpret_cast<uintptr_t>(top) & ~uintptr_t(15)) - 20;
  for (int i = 0; i < 20; ++i) words[i] = nullptr;
  words[11] = reinterpret_cast<void*>(start);  // x30, to which `ret` goes
  return words;
}
#endif

#else  // other processors: slow, through the C library
struct UContext {
  ucontext_t context;
  void (*start)();
};

inline void emu_switch(void** save, void* load) {
  UContext here;
  *save = &here;
  swapcontext(&here.context, &static_cast<UContext*>(load)->context);
}

inline void* prepare_stack(char* top, void (*start)()) {
  auto* there = reinterpret_cast<UContext*>((reinterpret_cast<uintptr_t>(top) & ~uintptr_t(63)) - 4096);
  static_assert(sizeof(UContext) < 4096, "the context lies at the top of its stack");
  getcontext(&there->context);
  there->context.uc_link = nullptr;
  there->context.uc_stack.ss_sp = reinterpret_cast<char*>(there) - 65536;
  there->context.uc_stack.ss_size = 65536;
  makecontext(&there->context, start, 0);
  return there;
}
#endif

}  // namespace emu
