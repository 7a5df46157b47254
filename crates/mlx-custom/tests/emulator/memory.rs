//! Accesses outside of arrays, of memory that nothing has written, of misaligned addresses.

use mlx_custom::gpu::GpuKernel;

use crate::support::{Start, assert_begins, counting, kernel};

#[test]
fn a_read_beyond_threadgroup_memory() {
    let bad = kernel(
        "sum_of_parts",
        "
        threadgroup float part[8];
        uint t = thread_index_in_threadgroup;
        if (t < 8) part[t] = x[t];
        threadgroup_barrier(mem_flags::mem_threadgroup);
        float sum = part[t / 5];
        out[t] = sum;",
    );
    assert_begins(
        &Start::new(64, 64, 64).finding(&bad, &[&counting(64)]),
        "sum_of_parts: read of part[8], beyond its 8 elements, by thread 40 (threadgroup 0, SIMD group 1, lane 8), \
         kernels/sum_of_parts.metal line 6; is the last tile guarded? (and 23 more findings)",
    );
}

#[test]
fn a_write_beyond_threadgroup_memory() {
    let bad = kernel(
        "write_part",
        "threadgroup float part[8];
        uint t = thread_index_in_threadgroup;
        part[t] = x[t];
        threadgroup_barrier(mem_flags::mem_threadgroup);
        out[t] = part[t % 8];",
    );
    assert_begins(
        &Start::new(32, 32, 32).finding(&bad, &[&counting(32)]),
        "write_part: write of part[8], beyond its 8 elements, by thread 8 (threadgroup 0, SIMD group 0, lane 8), \
         kernels/write_part.metal line 3;",
    );
}

#[test]
fn reads_outside_of_an_input() {
    let beyond = kernel("no_guard", "uint i = thread_position_in_grid.x;\nout[i % 50] = x[i];");
    assert_begins(
        &Start::new(64, 32, 50).finding(&beyond, &[&counting(50)]),
        "no_guard: read of x[50], beyond its 50 elements, by thread 18 (threadgroup 1, SIMD group 0, lane 18), \
         kernels/no_guard.metal line 2;",
    );
    let before = kernel("neighbour", "int i = thread_position_in_grid.x;\nout[i] = x[i] - x[i - 1];");
    assert_begins(
        &Start::new(32, 32, 32).finding(&before, &[&counting(32)]),
        "neighbour: read of x[-1], before its 32 elements, by thread 0 (threadgroup 0, SIMD group 0, lane 0), \
         kernels/neighbour.metal line 2;",
    );
    let wrapped = kernel("wrapped", "uint i = thread_position_in_grid.x;\nout[i] = x[i - 1u];");
    assert_begins(
        &Start::new(32, 32, 32).finding(&wrapped, &[&counting(32)]),
        "wrapped: read of x[4294967295], beyond its 32 elements, by thread 0",
    );
}

#[test]
fn a_write_beyond_an_output_does_no_harm() {
    let bad = kernel("far", "uint i = thread_position_in_grid.x;\nout[i * 100000] = x[i];");
    assert_begins(
        &Start::new(32, 32, 32).finding(&bad, &[&counting(32)]),
        "far: write of out[100000], beyond its 32 elements, by thread 1 (threadgroup 0, SIMD group 0, lane 1), \
         kernels/far.metal line 2; is the last tile guarded? (and 30 more findings)",
    );
}

#[test]
fn a_wide_load_that_reaches_beyond_the_end() {
    let bad = kernel(
        "wide",
        "uint i = thread_position_in_grid.x;
        float4 four = *(const device float4*)(x + 4 * i);
        out[i] = four.x + four.y + four.z + four.w;",
    );
    assert_begins(
        &Start::new(32, 32, 32).finding(&bad, &[&counting(126)]),
        "wide: read of x[124] to x[127], beyond its 126 elements, by thread 31 (threadgroup 0, SIMD group 0, lane 31), \
         kernels/wide.metal line 2;",
    );
}

#[test]
fn a_misaligned_wide_load() {
    let bad = kernel(
        "skewed",
        "uint i = thread_position_in_grid.x;
        uint4 four = *(const device uint4*)(x + 2 * i);
        out[i] = four.x + four.w;",
    );
    assert_begins(
        &Start::new(8, 8, 8).finding(&bad, &[&counting(64)]),
        "skewed: access to 16 bytes at byte 8 of x, which is no multiple of 16, by thread 1 \
         (threadgroup 0, SIMD group 0, lane 1), kernels/skewed.metal line 2;",
    );
}

#[test]
fn a_write_to_an_input() {
    let bad = kernel("in_place", "uint i = thread_position_in_grid.x;\nout[i] = x[i];\n((device float*)x)[i] = 0.0f;");
    assert_begins(
        &Start::new(32, 32, 32).finding(&bad, &[&counting(32)]),
        "in_place: write of x[0], which is an input, by thread 0 (threadgroup 0, SIMD group 0, lane 0), \
         kernels/in_place.metal line 3",
    );
}

#[test]
fn threadgroup_memory_that_nothing_has_written() {
    let bad = kernel(
        "half_filled",
        "threadgroup float tile[64];
        uint t = thread_index_in_threadgroup;
        tile[t] = x[t];
        threadgroup_barrier(mem_flags::mem_threadgroup);
        out[t] = tile[t] + tile[2 * t];",
    );
    assert_begins(
        &Start::new(32, 32, 32).finding(&bad, &[&counting(32)]),
        "half_filled: read of tile[32] in threadgroup memory, which nothing has written, by thread 16 \
         (threadgroup 0, SIMD group 0, lane 16), kernels/half_filled.metal line 5;",
    );
}

#[test]
fn threadgroup_memory_of_the_threadgroup_before_is_gone() {
    let bad = kernel(
        "kept",
        "threadgroup float kept[32];
        uint t = thread_index_in_threadgroup;
        if (threadgroup_position_in_grid.x == 0) kept[t] = x[t];
        threadgroup_barrier(mem_flags::mem_threadgroup);
        out[thread_position_in_grid.x] = kept[t];",
    );
    assert_begins(
        &Start::new(64, 32, 64).finding(&bad, &[&counting(32)]),
        "kept: read of kept[0] in threadgroup memory, which nothing has written, by thread 0 \
         (threadgroup 1, SIMD group 0, lane 0), kernels/kept.metal line 5;",
    );
}

#[test]
fn an_output_read_before_it_is_written() {
    let bad = kernel("accumulate", "uint i = thread_position_in_grid.x;\nout[i] += x[i];");
    let start = Start::new(32, 32, 32);
    assert_begins(
        &start.finding(&bad, &[&counting(32)]),
        "accumulate: read of out[0], an output that nothing has written, by thread 0 \
         (threadgroup 0, SIMD group 0, lane 0), kernels/accumulate.metal line 2;",
    );
    let filled = start.filled(1.0).run(&bad, &[&counting(32)]).unwrap();
    assert_eq!(filled.as_slice::<f32>()[31], 32.0);
}

#[test]
fn an_output_that_stays_unwritten() {
    let bad = kernel("every_other", "uint i = thread_position_in_grid.x;\nout[2 * i] = x[i];");
    let start = Start::new(16, 16, 32);
    assert_begins(
        &start.finding(&bad, &[&counting(16)]),
        "every_other: out[1] and 15 other elements of the output out were never written;",
    );
    assert!(start.filled(0.0).run(&bad, &[&counting(16)]).is_ok());
}

#[test]
fn a_missing_wait_for_copies() {
    const BODY: &str = "
        threadgroup float tile[128];
        uint t = thread_index_in_threadgroup;
        async_copy16(tile + 4 * t, x + 4 * t);
        async_commit();
        WAIT
        threadgroup_barrier(mem_flags::mem_threadgroup);
        out[t] = tile[t];";
    let waiting = GpuKernel { header: "#define WAIT async_wait<0>();", ..kernel("copies", BODY) };
    let out = Start::new(32, 32, 32).run(&waiting, &[&counting(128)]).unwrap();
    assert_eq!(out.as_slice::<f32>(), counting(32).as_slice::<f32>());
    let impatient = GpuKernel { header: "#define WAIT", ..kernel("no_wait", BODY) };
    assert_begins(
        &Start::new(32, 32, 32).finding(&impatient, &[&counting(128)]),
        "no_wait: read of tile[0] in threadgroup memory, which nothing has written, by thread 0",
    );
}

#[test]
fn a_finding_inside_a_function_of_the_header_names_its_line() {
    let bad = GpuKernel {
        header: "inline float\nat(const device float* p, uint i) {\n  return p[i];\n}\n",
        ..kernel("helped", "uint i = thread_position_in_grid.x;\nout[i] = at(x, i + 1);")
    };
    assert_begins(
        &Start::new(32, 32, 32).finding(&bad, &[&counting(32)]),
        "helped: read of x[32], beyond its 32 elements, by thread 31 (threadgroup 0, SIMD group 0, lane 31), \
         header of kernels/helped.metal line 3;",
    );
}

#[test]
fn a_copy_into_memory_that_others_still_read() {
    let bad = kernel(
        "too_early",
        "threadgroup float tile[128];
        uint t = thread_index_in_threadgroup;
        float sum = 0.0f;
        for (uint k = 0; k < 2; k++) {
          async_copy16(tile + 4 * t, x + 128 * k + 4 * t);
          async_commit();
          async_wait<0>();
          threadgroup_barrier(mem_flags::mem_threadgroup);
          sum += tile[127 - t];
        }
        out[t] = sum;",
    );
    assert_begins(&Start::new(32, 32, 32).finding(&bad, &[&counting(256)]), "too_early: write of tile[");
    let good = kernel(
        "in_turns",
        "threadgroup float tile[2][128];
        uint t = thread_index_in_threadgroup;
        float sum = 0.0f;
        async_copy16(tile[0] + 4 * t, x + 4 * t);
        async_commit();
        for (uint k = 0; k < 4; k++) {
          if (k < 3) async_copy16(tile[(k + 1) % 2] + 4 * t, x + 128 * (k + 1) + 4 * t);
          async_commit();
          async_wait<1>();
          threadgroup_barrier(mem_flags::mem_threadgroup);
          sum += tile[k % 2][127 - t];
          threadgroup_barrier(mem_flags::mem_threadgroup);
        }
        out[t] = sum;",
    );
    let out = Start::new(32, 32, 32).run(&good, &[&counting(512)]).unwrap();
    assert_eq!(out.as_slice::<f32>()[0], (127 + 255 + 383 + 511) as f32);
}
