// out = a^T for a of [ROWS, COLUMNS], in tiles of 32x32 that pass through threadgroup memory.
threadgroup T tile[32][33]; // 33: the columns of a tile lie in different banks
const uint column = threadgroup_position_in_grid.x * 32 + thread_position_in_threadgroup.x;
for (uint y = thread_position_in_threadgroup.y; y < 32; y += threads_per_threadgroup.y) {
  const uint row = threadgroup_position_in_grid.y * 32 + y;
  if (row < ROWS && column < COLUMNS) {
    tile[y][thread_position_in_threadgroup.x] = a[row * COLUMNS + column];
  }
}
threadgroup_barrier(mem_flags::mem_threadgroup);
const uint out_column = threadgroup_position_in_grid.y * 32 + thread_position_in_threadgroup.x;
for (uint y = thread_position_in_threadgroup.y; y < 32; y += threads_per_threadgroup.y) {
  const uint out_row = threadgroup_position_in_grid.x * 32 + y;
  if (out_row < COLUMNS && out_column < ROWS) {
    out[out_row * ROWS + out_column] = tile[thread_position_in_threadgroup.x][y];
  }
}
