// More threadgroup memory than CUDA gives without being asked: a [ROWS, 1024] backwards, through one copy of it.
threadgroup float before[3], rows[ROWS][1024];
threadgroup uchar after[5];
const uint i = thread_index_in_threadgroup;
for (int row = 0; row < ROWS; row++) {
  rows[row][i] = a[row * 1024 + i];
}
if (i < 3) {
  before[i] = float(i);
}
if (i < 5) {
  after[i] = uchar(i);
}
threadgroup_barrier(mem_flags::mem_threadgroup);
for (int row = 0; row < ROWS; row++) {
  out[row * 1024 + i] = rows[ROWS - 1 - row][1023 - i] + before[2] + float(after[4]);
}
