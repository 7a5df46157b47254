// Inputs: x [M, K], packed [N, K * BITS / 32] uint, scales and biases [N, K / GROUP_SIZE], bias [N].
// Output: out [M, N]. Template: T (of x and out), BITS, GROUP_SIZE, HAS_BIAS (otherwise bias is
// not to be read).
// One thread computes one output. The grid is [N, M], rounded up to whole threadgroups.

const uint n = thread_position_in_grid.x; // output, the row of the weights
const uint m = thread_position_in_grid.y; // token, the row of x
const uint K = x_shape[1];
const uint N = packed_shape[0];
if (n >= N || m >= uint(x_shape[0])) {
    return;
}
// [task 2.3.2] quantized_matmul_plain
todo!("week 2 day 3 task 2: quantized_matmul_plain - see book/src/week2/day3.md");
// [end]
