// What the Rust side, the runtime and the kernels know of each other. `src/gpu/emulator/abi.rs` is the same in Rust.

#include <stddef.h>
#include <stdint.h>

#define EMU_INLINE __attribute__((always_inline)) inline
#define EMU_EXPORT extern "C" __attribute__((visibility("default")))
#define EMU_RUNTIME extern "C" __attribute__((visibility("hidden")))

namespace emu {

// Where in the source something stands, if the runtime was told so (`file` may be null).
struct Place {
  const char* file;
  uint32_t line;
};

// What a kernel's function is told of the thread that it runs for.
struct Thread {
  uint32_t index;   // in the threadgroup
  uint32_t lane;    // in its SIMD group
  uint32_t simd_group;
  uint32_t n_simd_groups;
  uint32_t position_in_grid[3];
  uint32_t threads_per_grid[3];
  uint32_t threadgroup_position[3];
  uint32_t threadgroups[3];
  uint32_t position_in_threadgroup[3];
  uint32_t threads_per_threadgroup[3];
};

using Entry = void (*)(const Thread& thread, void* const* arguments);

constexpr uint32_t INPUT = 0, OUTPUT = 1, THREADGROUP = 2;

// An input, an output, or an array in threadgroup memory.
struct Array {
  const char* name;
  char* start;            // the first byte that belongs to it
  char* origin;           // element 0, from which indices count: differs from `start` for reversed views
  uint64_t n_bytes;
  uint32_t element_bytes; // of one number: 4 for float, float4 and uint
  uint32_t index_bytes;   // of what an index counts: 16 for float4
  uint32_t kind;          // INPUT, OUTPUT or THREADGROUP
  // Only in checked mode, device memory:
  uint8_t* touched;       // per 4 bytes: bit 0 read, bit 1 written
  uint64_t* writers;      // outputs, per element: who wrote it last (see watch.h), 0: nobody
  uint32_t* writer_pcs;   // outputs, per element: from where
  uint32_t is_filled;     // outputs: all elements hold something before the kernel starts
};

enum FindingKind : uint32_t {
  NOTHING,
  OUT_OF_BOUNDS_READ,
  OUT_OF_BOUNDS_WRITE,
  WRITE_TO_INPUT,
  UNWRITTEN_READ,        // of threadgroup memory or an output
  WRITE_WRITE_RACE,      // two threads of a threadgroup
  READ_WRITE_RACE,       // this one writes what the other read
  WRITE_READ_RACE,       // this one reads what the other wrote
  GROUPS_WRITE_RACE,     // two threadgroups write one element
  GROUPS_READ_RACE,      // this one reads what another threadgroup wrote
  MISALIGNED,
  WILD_POINTER,
  DIVERGED_BARRIER,      // threads of the group wait at different places, or one has ended
  DIVERGED_SIMD,         // the same for the lanes of a SIMD group
  TOO_MUCH_MEMORY,       // no more room for threadgroup memory in the emulator
};

struct Finding {
  uint32_t kind;
  uint32_t array;         // number of the array; threadgroup arrays count on after the device's
  int64_t offset;         // bytes from `origin`
  uint32_t n_bytes;
  uint32_t thread;
  uint64_t threadgroup;
  uint64_t pc;            // return address in the kernel, 0 if `place` is known
  Place place;
  // The other side of a race or of a divergence.
  uint32_t other_thread;
  uint32_t other_ended;   // the other thread has ended
  uint64_t other_threadgroup;
  uint64_t other_pc;
  Place other_place;
};

// One access of one lane of the launch's first SIMD group.
struct Access {
  uint64_t address;
  uint64_t pc;
  uint32_t n_bytes;
  uint16_t thread;
  uint16_t is_threadgroup;
};

struct Counters {
  uint64_t device_read, device_written;            // bytes, in all
  uint64_t threadgroup_read, threadgroup_written;  // bytes, in all
  uint64_t barriers;                               // threadgroup barriers passed, by threadgroups
  uint64_t simd_barriers, simd_operations;         // passed by SIMD groups
  uint64_t threadgroup_memory;                     // bytes that a threadgroup declares
};

constexpr uint32_t MAX_THREADGROUP_ARRAYS = 32;

struct Launch {
  Entry entry;
  void* const* arguments;
  uint32_t threadgroups[3];
  uint32_t threads[3];     // of a threadgroup
  uint32_t uses_fibers;    // the body has barriers or SIMD-group operations
  uint32_t is_checked;
  // The device's arrays. In checked mode number i lies in the middle of the address range that starts at base + (i << shift),
  // all of which can be read and written.
  Array* arrays;
  uint32_t n_arrays;
  uint32_t shift;
  uint64_t base;
};

// What one processor works with: stacks for the threads of a threadgroup and its memory.
struct WorkerMemory {
  char* stacks;            // aligned to STACK_BYTES
  uint32_t n_stacks;
  uint32_t threadgroup_shift;
  uint64_t threadgroup_base;  // array i: from base + (i << shift) on, in the middle
  Access* accesses;        // room for recorded accesses, or null
  uint64_t max_accesses;
};

struct WorkerResult {
  Counters counters;
  Finding first;           // of the lowest threadgroup
  uint64_t n_findings;
  uint64_t n_accesses;
  Array threadgroup_arrays[MAX_THREADGROUP_ARRAYS];
  uint32_t n_threadgroup_arrays;
};

// The same numbers stand in abi.rs: a field that is added on one side only doesn't compile.
static_assert(sizeof(Array) == 80 && sizeof(Finding) == 96 && sizeof(Access) == 24 && sizeof(Counters) == 64);
static_assert(sizeof(Launch) == 72 && sizeof(WorkerMemory) == 40 && sizeof(WorkerResult) == 2744);

constexpr uint64_t STACK_BYTES = 256 << 10;
constexpr uint32_t LANES = 32;

// Which numbers of a tile a lane holds, the `i`-th of 8: of a left operand and of sums,
constexpr uint32_t tile_row(uint32_t lane, uint32_t i) { return lane / 4 + 8 * (i / 2 % 2); }
constexpr uint32_t tile_column(uint32_t lane, uint32_t i) { return 8 * (i / 4) + 2 * (lane % 4) + i % 2; }
// and of a right operand, whose rows are counted along k.
constexpr uint32_t tile_depth(uint32_t lane, uint32_t i) { return 8 * (i / 2 % 2) + 2 * (lane % 4) + i % 2; }
constexpr uint32_t tile_width(uint32_t lane, uint32_t i) { return lane / 4 + 8 * (i / 4); }

// What a lane brings to a product of tiles.
struct TileProduct {
  const float *a, *b;
  float* sums;
};

// Called by the last of a SIMD group's lanes to arrive at an operation, with what each lane brought.
using Combine = void (*)(void* const* lanes, uint32_t n_lanes);

}  // namespace emu

// Runs threadgroups until `next` (shared by all workers) reaches their number.
EMU_EXPORT int32_t emu_run(const emu::Launch* launch, const emu::WorkerMemory* memory, uint64_t* next,
                           emu::WorkerResult* result);

EMU_RUNTIME void emu_barrier(const char* file, uint32_t line);
EMU_RUNTIME void emu_simd_barrier(const char* file, uint32_t line);
EMU_RUNTIME void emu_simd_operation(void* mine, emu::Combine combine, const char* file, uint32_t line);
EMU_RUNTIME void* emu_threadgroup_array(uint32_t number, const char* name, uint64_t n_bytes, uint32_t index_bytes,
                                        uint32_t element_bytes);
EMU_RUNTIME void emu_tile_multiply_add(void* const* lanes, uint32_t n_lanes);
// An access by code that the compiler doesn't watch.
EMU_RUNTIME void emu_read(const void* address, uint64_t n_bytes);
EMU_RUNTIME void emu_write(const void* address, uint64_t n_bytes);
EMU_RUNTIME void emu_copy_begin(void* to, const void* from, uint32_t n_bytes);
EMU_RUNTIME void emu_copy_commit();
EMU_RUNTIME void emu_copy_wait(uint32_t n_pending);
