// A copy of a [.., .., ..], whatever its strides; and what the kernel is told of the input.
const uint i = thread_position_in_grid.x;
if (i < 8) {
  told[i] = i < 3 ? a_shape[i] : i < 6 ? int(a_strides[i - 3]) : a_ndim;
}
if (i >= uint(a_shape[0] * a_shape[1] * a_shape[2])) {
  return;
}
uint rest = i;
size_t at = 0;
for (int axis = 2; axis >= 0; axis--) {
  at += size_t(rest % a_shape[axis]) * a_strides[axis];
  rest /= a_shape[axis];
}
out[i] = a[at];
