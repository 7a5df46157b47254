// silu(gate) * up, 16 bytes a thread.
//
// - gate_up `[rows, 2 * I]`: of each row I numbers of gate, then I of up; out `[rows, I]`; both of type T
// - threadgroups: x the row, y a part of it; threads: x, one for each 16 bytes of the part
constexpr int WIDE = 16 / sizeof(T);
const int size = gate_up_shape[gate_up_ndim - 1] / 2;
const int part = threadgroup_position_in_grid.y;
const int first = (part * int(threads_per_threadgroup.x) + int(thread_position_in_threadgroup.x)) * WIDE;
// Where the row begins in gate_up, its numbers of up, and the row of out.
const long gate = long(threadgroup_position_in_grid.x) * 2 * size;
const long up = gate + size;
const long row = long(threadgroup_position_in_grid.x) * size;
// [task 2.5.5] swiglu
todo!("week 2 day 5 task 5: swiglu - see book/src/week2/day5.md");
// [end]
