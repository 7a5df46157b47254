// out [16, 8] = a [16, 16] times the transpose of b [8, 16], with operands that never were in threadgroup memory.
// Template: T, half or bfloat16_t.
const ushort row = tile_pair_row();
const ushort column = 2 * tile_pair_column();
TileA<T> left;
TileB<T> right;
#pragma unroll
for (ushort i = 0; i < 4; i++) {
    const ushort half_of_rows = i % 2, half_of_columns = i / 2;
    const uint pair = *(const device uint*)(a + (8 * half_of_rows + row) * 16 + 8 * half_of_columns + column);
    tile_set_pair(left, half_of_rows, half_of_columns, pair);
}
#pragma unroll
for (ushort i = 0; i < 2; i++) {
    tile_set_pair_transposed(right, 0, i, *(const device uint*)(b + row * 16 + 8 * i + column));
    tile_set_pair_transposed(right, 1, i, 0x7FFF7FFF); // NaN, where nobody looks
}
TileAcc sums;
tile_clear(sums);
tile_multiply_add_left(sums, left, right);
tile_multiply_add_left(sums, left, right);
#pragma unroll
for (ushort i = 0; i < 4; i++) {
    out[tile_row_of(i / 2) * 8 + column + i % 2] = tile_value(sums, i);
}
