// The sum of each row of a [rows, n], and its mean: one threadgroup per row.
threadgroup float partial[32], total;
const uint row = threadgroup_position_in_grid.x;
const uint n = a_shape[1];
float sum = 0;
for (uint i = thread_index_in_threadgroup; i < n; i += threads_per_threadgroup.x) {
  sum += load(a, row * n + i);
}
sum = simd_sum(sum);
if (thread_index_in_simdgroup == 0) {
  partial[simdgroup_index_in_threadgroup] = sum;
}
threadgroup_barrier(mem_flags::mem_threadgroup);
if (simdgroup_index_in_threadgroup == 0) {
  const uint lane = thread_index_in_simdgroup;
  const float all = simd_sum(lane < simdgroups_per_threadgroup ? partial[lane] : 0.0f);
  if (lane == 0) {
    store(&total, all);
  }
}
threadgroup_barrier(mem_flags::mem_threadgroup);
if (thread_index_in_threadgroup == 0) {
  sums[row] = total;
  means[row] = T(total / float(n));
}
