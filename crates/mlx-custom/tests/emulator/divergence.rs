//! Threads that wait for others who don't come.

use crate::support::{Start, assert_begins, counting, kernel};

#[test]
fn a_barrier_that_some_threads_leave_out() {
    let bad = kernel(
        "early_return",
        "uint t = thread_index_in_threadgroup;
        if (t >= 40) return;
        threadgroup_barrier(mem_flags::mem_threadgroup);
        out[t] = x[t];",
    );
    assert_begins(
        &Start::new(64, 64, 64).finding(&bad, &[&counting(64)]),
        "early_return: thread 0 (threadgroup 0, SIMD group 0, lane 0) waits at a barrier, kernels/early_return.metal line 3, and \
         thread 40 has ended; all threads of a threadgroup must come to the same one",
    );
}

#[test]
fn threads_at_different_barriers() {
    let bad = kernel(
        "two_barriers",
        "uint t = thread_index_in_threadgroup;
        if (t < 32) {
          threadgroup_barrier(mem_flags::mem_threadgroup);
        } else {
          threadgroup_barrier(mem_flags::mem_threadgroup);
        }
        out[t] = x[t];",
    );
    assert_begins(
        &Start::new(64, 64, 64).finding(&bad, &[&counting(64)]),
        "two_barriers: thread 0 (threadgroup 0, SIMD group 0, lane 0) waits at a barrier, kernels/two_barriers.metal line 3, and \
         thread 32 waits, kernels/two_barriers.metal line 5;",
    );
}

#[test]
fn a_sum_in_a_branch() {
    let bad = kernel(
        "branch",
        "uint t = thread_index_in_threadgroup;
        float value = x[t];
        if (thread_index_in_simdgroup < 16) {
          value = simd_sum(value);
        }
        out[t] = value;",
    );
    assert_begins(
        &Start::new(64, 64, 64).finding(&bad, &[&counting(64)]),
        "branch: thread 0 (threadgroup 0, SIMD group 0, lane 0) waits at a SIMD-group operation, kernels/branch.metal line 4, and \
         thread 16 has ended; all lanes of a SIMD group must come to the same one",
    );
}

#[test]
fn lanes_at_different_operations() {
    let bad = kernel(
        "sum_or_max",
        "uint t = thread_index_in_threadgroup;
        float value = x[t];
        if (t % 2 == 0)
          value = simd_sum(value);
        else
          value = simd_max(value);
        out[t] = value;",
    );
    assert_begins(
        &Start::new(32, 32, 32).finding(&bad, &[&counting(32)]),
        "sum_or_max: thread 0 (threadgroup 0, SIMD group 0, lane 0) waits at a SIMD-group operation, \
         kernels/sum_or_max.metal line 4, and thread 1 waits, kernels/sum_or_max.metal line 6;",
    );
}

#[test]
fn one_lane_at_a_barrier_and_the_others_at_a_sum() {
    let bad = kernel(
        "mixed",
        "uint t = thread_index_in_threadgroup;
        float value = x[t];
        if (t == 3) threadgroup_barrier(mem_flags::mem_threadgroup);
        out[t] = simd_sum(value);",
    );
    assert_begins(
        &Start::new(32, 32, 32).finding(&bad, &[&counting(32)]),
        "mixed: thread 0 (threadgroup 0, SIMD group 0, lane 0) waits at a SIMD-group operation, kernels/mixed.metal line 4, and \
         thread 3 waits, kernels/mixed.metal line 3;",
    );
}

#[test]
fn the_emulator_goes_on_after_a_threadgroup_that_is_stuck() {
    let bad = kernel(
        "sometimes",
        "uint t = thread_index_in_threadgroup;
        if (threadgroup_position_in_grid.x % 2 == 1 && t == 5) return;
        threadgroup_barrier(mem_flags::mem_threadgroup);
        out[thread_position_in_grid.x] = x[t];",
    );
    let start = Start::new(32 * 6, 32, 32 * 6);
    let found = start.finding(&bad, &[&counting(32)]);
    assert_begins(&found, "sometimes: thread 0 (threadgroup 1, SIMD group 0, lane 0) waits at a barrier");
    assert!(found.ends_with("(and 2 more findings)"), "{found}");
    // The stacks that were left in the middle of something serve the next kernel.
    let good = kernel(
        "afterwards",
        "uint t = thread_index_in_threadgroup;
        threadgroup_barrier(mem_flags::mem_threadgroup);
        out[thread_position_in_grid.x] = simd_sum(x[t]);",
    );
    let out = start.run(&good, &[&counting(32)]).unwrap();
    assert!(out.as_slice::<f32>().iter().all(|&sum| sum == 496.0));
}
