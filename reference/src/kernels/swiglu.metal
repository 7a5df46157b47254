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
// All loads before all stores, as in rms_norm.metal.
float gates[WIDE], ups[WIDE];
for (int n = 0; n < WIDE; ++n) {
    const int i = first + n;
    gates[n] = i < size ? float(gate_up[gate + i]) : 0.0f;
    ups[n] = i < size ? float(gate_up[up + i]) : 0.0f;
}
for (int n = 0; n < WIDE; ++n) {
    const float g = gates[n];
    // As day 1.4: an exponent that is not positive neither overflows nor loses a small result.
    const float decay = exp(-abs(g));
    const float activated = g * (g < 0.0f ? decay : 1.0f) / (1.0f + decay);
    if (first + n < size) {
        out[row + first + n] = T(activated * ups[n]);
    }
}
// [end]
