// Inputs: packed [N, K * BITS / 32] uint, scales and biases [N, K / GROUP_SIZE].
// Output: weights [N, K]. Template: BITS, GROUP_SIZE.
// One thread unpacks one word: thread i of the grid has word i of the whole matrix.

const uint word_index = thread_position_in_grid.x;
const uint n_words = uint(packed_shape[0]) * uint(packed_shape[1]);
if (word_index >= n_words) {
    return; // The last threadgroup may reach beyond the matrix.
}
// [task 2.3.1] dequantize
todo!("week 2 day 3 task 1: dequantize - see book/src/week2/day3.md");
// [end]
