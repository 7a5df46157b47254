//! Two threads, one element, and nothing between them.

use crate::support::{Start, assert_begins, counting, kernel};

#[test]
fn a_missing_barrier() {
    let bad = kernel(
        "rotate",
        "threadgroup float tile[64];
        uint t = thread_index_in_threadgroup;
        tile[t] = x[t];
        out[t] = tile[(t + 63) % 64];",
    );
    assert_begins(
        &Start::new(64, 64, 64).finding(&bad, &[&counting(64)]),
        "rotate: read of tile[63] in threadgroup memory, which nothing has written, by thread 0",
    );
    let bad = kernel(
        "rotate_back",
        "threadgroup float tile[64];
        uint t = thread_index_in_threadgroup;
        tile[t] = 0.0f;
        threadgroup_barrier(mem_flags::mem_threadgroup);
        tile[t] = x[t];
        out[t] = t == 0 ? 0.0f : tile[t - 1];",
    );
    assert_begins(
        &Start::new(64, 64, 64).finding(&bad, &[&counting(64)]),
        "rotate_back: read of tile[0] by thread 1 (threadgroup 0, SIMD group 0, lane 1), kernels/rotate_back.metal line 6, \
         which thread 0 writes, kernels/rotate_back.metal line 5, with no barrier between them; is one missing, perhaps at \
         the end of a loop?",
    );
}

#[test]
fn a_missing_barrier_before_memory_is_used_again() {
    let bad = kernel(
        "again",
        "threadgroup float shared[1];
        uint t = thread_index_in_threadgroup;
        float sum = 0.0f;
        for (uint i = 0; i < 4; i++) {
          if (t == 0) shared[0] = x[i];
          threadgroup_barrier(mem_flags::mem_threadgroup);
          sum += shared[0];
        }
        out[t] = sum;",
    );
    assert_begins(
        &Start::new(64, 64, 64).finding(&bad, &[&counting(64)]),
        "again: read of shared[0] by thread 1 (threadgroup 0, SIMD group 0, lane 1), kernels/again.metal line 7, which thread 0 \
         writes, kernels/again.metal line 5, with no barrier between them; is one missing, perhaps at the end of a loop?",
    );
}

#[test]
fn two_threads_write_one_element() {
    let bad = kernel(
        "crowded",
        "threadgroup float shared[32];
        uint t = thread_index_in_threadgroup;
        shared[t / 2] = x[t];
        threadgroup_barrier(mem_flags::mem_threadgroup);
        out[t] = shared[t / 2];",
    );
    assert_begins(
        &Start::new(64, 64, 64).finding(&bad, &[&counting(64)]),
        "crowded: write of shared[0] by thread 1 (threadgroup 0, SIMD group 0, lane 1), kernels/crowded.metal line 3, and by \
         thread 0, kernels/crowded.metal line 3, with no barrier between them;",
    );
}

#[test]
fn two_threads_write_one_element_of_an_output() {
    let bad = kernel("same_place", "uint i = thread_position_in_grid.x;\nout[i / 2] = x[i];");
    assert_begins(
        &Start::new(32, 32, 16).finding(&bad, &[&counting(32)]),
        "same_place: write of out[0] by thread 1 (threadgroup 0, SIMD group 0, lane 1), kernels/same_place.metal line 2, and by \
         thread 0, kernels/same_place.metal line 2,",
    );
}

#[test]
fn two_threadgroups_write_one_element() {
    let bad = kernel("overlap", "uint i = thread_position_in_grid.x;\nout[i % 32] = x[i];");
    assert_begins(
        &Start::new(64, 32, 32).finding(&bad, &[&counting(64)]),
        "overlap: write of out[0] by thread 0 (threadgroup 1, SIMD group 0, lane 0), kernels/overlap.metal line 2, and by \
         thread 0 (threadgroup 0, SIMD group 0, lane 0), kernels/overlap.metal line 2; threadgroups run in any order",
    );
}

#[test]
fn a_threadgroup_reads_what_another_wrote() {
    let bad = kernel(
        "chain",
        "uint i = thread_position_in_grid.x;
        out[i] = x[i];
        if (i == 32) out[i] = out[0];",
    );
    assert_begins(
        &Start::new(64, 32, 64).finding(&bad, &[&counting(64)]),
        "chain: read of out[0] by thread 0 (threadgroup 1, SIMD group 0, lane 0), kernels/chain.metal line 3, which thread 0 \
         (threadgroup 0, SIMD group 0, lane 0) writes, kernels/chain.metal line 2;",
    );
}

#[test]
fn a_simd_group_barrier_orders_only_its_own_lanes() {
    let body = "threadgroup float tile[64];
        uint t = thread_index_in_threadgroup;
        tile[t] = 0.0f;
        threadgroup_barrier(mem_flags::mem_threadgroup);
        tile[t] = x[t];
        simdgroup_barrier(mem_flags::mem_threadgroup);
        out[t] = tile[t ^ MASK];";
    let mut within = kernel("within", body);
    within.header = "#define MASK 1";
    let out = Start::new(64, 64, 64).run(&within, &[&counting(64)]).unwrap();
    assert_eq!(out.as_slice::<f32>()[..4], [1.0, 0.0, 3.0, 2.0]);
    let mut across = kernel("across", body);
    across.header = "#define MASK 32";
    let found = Start::new(64, 64, 64).finding(&across, &[&counting(64)]);
    assert!(found.contains("with no barrier between them"), "{found}");
}
