// out [ROWS, N] = a [ROWS, K] times the transpose of b [N, K], and then once more, with b backwards.
// Template: T, half or bfloat16_t; ROWS, a multiple of 64; N and K, 64 or 128.
constexpr int THREADS = 2 * ROWS;
constexpr int PARTS = K / 8;
threadgroup T left[ROWS * (K + WIDE_PADDING)];
threadgroup T right[N * (K + WIDE_PADDING)];
const int thread_index = thread_index_in_threadgroup;
const int own_row = 16 * simdgroup_index_in_threadgroup;
for (int i = thread_index; i < ROWS * PARTS; i += THREADS) {
    async_copy16(left + wide_place<ROWS, K>(i / PARTS, i % PARTS * 8), a + i * 8);
}
for (int i = thread_index; i < N * PARTS; i += THREADS) {
    async_copy16(right + wide_place<N, K>(i / PARTS, i % PARTS * 8), b + i * 8);
}
async_commit();
async_wait<0>();
wide_publish();
threadgroup_barrier(mem_flags::mem_threadgroup);
TileAcc sums[N / 16];
wide_begin();
wide_multiply_transposed<ROWS, N, K>(sums, left, own_row, right);
wide_commit();
wide_wait<0>();
#pragma unroll
for (int n = 0; n < N / 16; n++) {
    tile_for_each(sums[n], [&](ushort row, ushort column, thread float& value) {
        out[(own_row + row) * N + 16 * n + column] = value;
    });
}
// Plain stores are published like copies.
threadgroup_barrier(mem_flags::mem_threadgroup);
for (int i = thread_index; i < N * PARTS; i += THREADS) {
    const int row = N - 1 - i / PARTS;
    *(threadgroup uint4*)(right + wide_place<N, K>(i / PARTS, i % PARTS * 8)) =
        *(const device uint4*)(b + row * K + i % PARTS * 8);
}
wide_publish();
threadgroup_barrier(mem_flags::mem_threadgroup);
wide_begin();
wide_multiply_transposed<ROWS, N, K>(sums, left, own_row, right);
wide_commit();
wide_wait<0>();
#pragma unroll
for (int n = 0; n < N / 16; n++) {
    tile_for_each(sums[n], [&](ushort row, ushort column, thread float& value) {
        out[ROWS * N + (own_row + row) * N + 16 * n + column] = value;
    });
}
