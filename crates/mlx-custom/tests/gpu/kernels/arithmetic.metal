// Arithmetic in T itself, and mixed with float and int.
uint i = thread_position_in_grid.x;
T x = a[i];
T y = b[i];
T sum = x + y;
sum *= x;
float mixed = x * 2.0f + y;
mixed += x;
if (x < y && mixed > x) {
  sum = max(x, y) - min(x, y) * T(3);
}
sums[i] = sum + 2 * x;
mixes[i] = mixed / 4;
