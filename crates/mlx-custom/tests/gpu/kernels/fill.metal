// Writes every second element.
const uint i = thread_position_in_grid.x;
out[2 * i] = a[0] + T(i);
