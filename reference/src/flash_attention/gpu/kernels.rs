//! The kernels, as they stand in `kernels/*.metal`.

use mlx_custom::gpu::GpuKernel;

/// Functions that the kernels share.
const ROWS: &str = include_str!("../../kernels/attention_rows.metal");

const ROWS_AND_TILES: &str =
    concat!(include_str!("../../kernels/attention_rows.metal"), include_str!("../../kernels/attention_tiles.metal"));

const ROWS_AND_WIDE_TILES: &str = concat!(
    include_str!("../../kernels/attention_rows.metal"),
    include_str!("../../kernels/attention_tiles.metal"),
    include_str!("../../kernels/attention_wide_tiles.metal")
);

/// Task 1: one SIMD group for each query.
pub static ATTENTION_PLAIN: GpuKernel = GpuKernel {
    name: "attention_plain",
    inputs: &["query", "key", "value", "mask"],
    outputs: &["out"],
    header: ROWS,
    body: include_str!("../../kernels/attention_plain.metal"),
    strided: true,
};

/// Task 2: the query heads of a group share the keys; task 3: so do several threadgroups.
pub static ATTENTION_DECODE: GpuKernel = GpuKernel {
    name: "attention_decode",
    inputs: &["query", "key", "value"],
    outputs: &["out", "statistics"],
    header: ROWS,
    body: include_str!("../../kernels/attention_decode.metal"),
    strided: true,
};

/// Task 3: puts together what the threadgroups found.
pub static ATTENTION_DECODE_MERGE: GpuKernel = GpuKernel {
    name: "attention_decode_merge",
    inputs: &["partial", "statistics"],
    outputs: &["out"],
    header: ROWS,
    body: include_str!("../../kernels/attention_decode_merge.metal"),
    strided: false,
};

/// Task 4: tiles of queries meet tiles of keys on the matrix units.
pub static ATTENTION_PREFILL: GpuKernel = GpuKernel {
    name: "attention_prefill",
    inputs: &["query", "key", "value"],
    outputs: &["out"],
    header: ROWS_AND_TILES,
    body: include_str!("../../kernels/attention_prefill.metal"),
    strided: true,
};

/// The same on wide tiles, whose products run while the softmax is computed.
pub static ATTENTION_PREFILL_WIDE: GpuKernel = GpuKernel {
    name: "attention_prefill_wide",
    inputs: &["query", "key", "value"],
    outputs: &["out"],
    header: ROWS_AND_WIDE_TILES,
    body: include_str!("../../kernels/attention_prefill_wide.metal"),
    strided: true,
};
