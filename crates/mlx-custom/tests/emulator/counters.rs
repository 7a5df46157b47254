//! What launches did, counted.

use mlx_custom::gpu::emulator::{KernelCounters, take_counters};

use crate::support::{Start, counting, kernel};

/// Other tests launch kernels at the same time, so a kernel is found by its name.
fn counters_of(name: &str) -> KernelCounters {
    use std::sync::Mutex;
    static ALL: Mutex<Vec<KernelCounters>> = Mutex::new(Vec::new());
    let mut all = ALL.lock().unwrap();
    all.extend(take_counters());
    all.iter().find(|counters| counters.kernel == name).unwrap().clone()
}

#[test]
fn bytes_barriers_and_operations() {
    let counted = kernel(
        "counted",
        "threadgroup float tile[64];
        uint t = thread_index_in_threadgroup;
        tile[t] = x[t];
        threadgroup_barrier(mem_flags::mem_threadgroup);
        out[thread_position_in_grid.x] = simd_sum(tile[63 - t]);",
    );
    Start::new(192, 64, 192).run(&counted, &[&counting(64)]).unwrap();
    let counters = counters_of("counted");
    assert_eq!((counters.threads, counters.threadgroups), (192, 3));
    assert_eq!((counters.grid, counters.threadgroup), ([192, 1, 1], [64, 1, 1]));
    assert_eq!((counters.device_bytes_read, counters.device_bytes_read_distinct), (3 * 256, 256));
    assert_eq!((counters.device_bytes_written, counters.device_bytes_written_distinct), (3 * 256, 3 * 256));
    assert_eq!((counters.threadgroup_bytes_read, counters.threadgroup_bytes_written), (3 * 256, 3 * 256));
    assert_eq!((counters.barriers, counters.simd_operations, counters.simd_barriers), (3, 6, 0));
    assert_eq!(counters.threadgroup_memory, 256);
    assert_eq!((counters.segments_per_least, counters.worst_bank_conflict), (1.0, 1));
}

#[test]
fn scattered_reads_and_bank_conflicts() {
    let scattered = kernel(
        "scattered",
        "threadgroup float tile[32 * 32];
        uint t = thread_index_in_threadgroup;
        tile[32 * t] = x[32 * t];
        threadgroup_barrier(mem_flags::mem_threadgroup);
        out[t] = tile[32 * t];",
    );
    Start::new(32, 32, 32).run(&scattered, &[&counting(1024)]).unwrap();
    let counters = counters_of("scattered");
    assert_eq!(counters.worst_bank_conflict, 32);
    // 32 pieces for the read where one would do, and one for the write.
    assert_eq!(counters.segments_per_least, 33.0 / 2.0);
}
