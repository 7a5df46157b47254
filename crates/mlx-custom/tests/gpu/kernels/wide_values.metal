// out [64, N] = a [64, 128] times b [128, N]. The first half of b is multiplied twice, the second once, in groups of products that
// overlap. Template: T, half or bfloat16_t; N, 64 or 128.
constexpr int PARTS = N / 8;
threadgroup T right[64 * (N + WIDE_PADDING)];
const int thread_index = thread_index_in_threadgroup;
const int own_row = 16 * simdgroup_index_in_threadgroup;
const ushort row = tile_pair_row();
const ushort column = 2 * tile_pair_column();
TileA<T> left[2][4];
#pragma unroll
for (int k = 0; k < 8; k++) {
    #pragma unroll
    for (ushort i = 0; i < 4; i++) {
        const device T* pair = a + (own_row + 8 * (i % 2) + row) * 128 + 16 * k + 8 * (i / 2) + column;
        tile_set_pair(left[k / 4][k % 4], i % 2, i / 2, *(const device uint*)(pair));
    }
}
TileAcc sums[N / 16];
#pragma unroll
for (int n = 0; n < N / 16; n++) {
    tile_clear(sums[n]);
}
#pragma unroll
for (int part = 0; part < 2; part++) {
    threadgroup_barrier(mem_flags::mem_threadgroup);
    for (int i = thread_index; i < 64 * PARTS; i += 128) {
        async_copy16(right + wide_place<64, N>(i / PARTS, i % PARTS * 8), b + part * 64 * N + i * 8);
    }
    async_commit();
    async_wait<0>();
    wide_publish();
    threadgroup_barrier(mem_flags::mem_threadgroup);
    wide_begin();
    wide_multiply_add<64, N>(sums, left[part], right);
    wide_commit();
    if (part == 0) {
        wide_multiply_add<64, N>(sums, left[part], right);
        wide_commit();
    }
    wide_wait<0>();
}
#pragma unroll
for (int n = 0; n < N / 16; n++) {
    tile_for_each(sums[n], [&](ushort row, ushort column, thread float& value) {
        out[(own_row + row) * N + 16 * n + column] = value;
    });
}
