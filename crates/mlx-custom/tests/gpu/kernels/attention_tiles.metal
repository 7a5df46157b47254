// Softmax attention of 16 queries [16, 16] over 32 keys [32, 16] and values [32, 16], in one SIMD group. The last key is masked out.
threadgroup T q_tile[16 * 24];
threadgroup T k_tile[32 * 24];
threadgroup T v_tile[32 * 24];
const uint lane = thread_index_in_simdgroup;
for (uint i = lane; i < 16 * 16; i += 32) {
  q_tile[i / 16 * 24 + i % 16] = q[i];
}
for (uint i = lane; i < 32 * 16; i += 32) {
  k_tile[i / 16 * 24 + i % 16] = k[i];
  v_tile[i / 16 * 24 + i % 16] = v[i];
}
simdgroup_barrier(mem_flags::mem_threadgroup);

TileA<T> query;
tile_load(query, q_tile, 24);
TileAcc scores[2];
for (int part = 0; part < 2; part++) {
  TileB<T> keys;
  tile_load_transposed(keys, k_tile + 16 * part * 24, 24);
  tile_clear(scores[part]);
  tile_multiply_add(scores[part], query, keys);
}
tile_for_each_pair(scores[1], [&](ushort row, ushort column, thread float& left, thread float& right) {
  right = column == 14 ? -INFINITY : right;
});

float largest[TILE_ROWS_PER_LANE];
tile_row_max(scores, largest);
// The same by hand, through rows of single tiles.
float left_max[TILE_ROWS_PER_LANE];
float right_max[TILE_ROWS_PER_LANE];
tile_row_max(scores[0], left_max);
tile_row_max(scores[1], right_max);
for (int part = 0; part < 2; part++) {
  tile_for_each_of_row(scores[part], [&](ushort i, ushort row, ushort column, thread float& value) {
    value = exp(value - largest[i]);
  });
}
float sums[TILE_ROWS_PER_LANE];
tile_row_sum(scores, sums);
float right_sums[TILE_ROWS_PER_LANE];
tile_row_sum(scores[1], right_sums);

TileAcc result;
tile_clear(result);
for (int part = 0; part < 2; part++) {
  TileA<T> weights;
  tile_acc_to_a(weights, scores[part]);
  TileB<T> values;
  tile_load(values, v_tile + 16 * part * 24, 24);
  tile_multiply_add(result, weights, values);
}
float factors[TILE_ROWS_PER_LANE];
for (ushort i = 0; i < TILE_ROWS_PER_LANE; i++) {
  factors[i] = 1.0f / sums[i];
}
tile_scale_rows(result, factors);
tile_for_each(result, [&](ushort row, ushort column, thread float& value) { out[row * 16 + column] = value; });
// Every lane that owns a row has the same numbers; the one with column 0 writes them.
tile_for_each_of_row(result, [&](ushort i, ushort row, ushort column, thread float& value) {
  if (column == 0) {
    stats[row * 3] = largest[i] - max(left_max[i], right_max[i]);
    stats[row * 3 + 1] = sums[i];
    stats[row * 3 + 2] = row == tile_row_of(i) ? right_sums[i] : -1.0f;
  }
});
