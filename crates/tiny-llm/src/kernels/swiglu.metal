// silu(gate) * up, 16 bytes a thread.
//
// - gate_up `[rows, 2 * I]`: of each row I numbers of gate, then I of up; out `[rows, I]`; both of type T
// - threadgroups: x the row, y a part of it; threads: x, one for each 16 bytes of the part
constexpr int WIDE = 16 / sizeof(T);
const int size = gate_up_shape[gate_up_ndim - 1] / 2;
const int first = int(thread_position_in_grid.y * threads_per_threadgroup.x + thread_position_in_threadgroup.x) * WIDE;
const device T* gate = gate_up + long(threadgroup_position_in_grid.x) * 2 * size;
const device T* up = gate + size;
device T* row = out + long(threadgroup_position_in_grid.x) * size;
// [task 2.5.5] swiglu
todo!("week 2 day 5 task 5: swiglu - see book/src/week2/day5.md");
// [end]
