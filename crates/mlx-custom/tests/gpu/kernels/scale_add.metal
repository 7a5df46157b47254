// out = a * FACTOR + b, over n elements; the grid has more threads than that.
uint i = thread_position_in_grid.x;
if (i >= uint(a_shape[0])) {
  return;
}
float sum = float(a[i]) * FACTOR;
if (WITH_B) {
  sum += float(b[i]);
}
out[i] = T(sum);
