// Inputs: packed [N, K * BITS / 32] uint, scales and biases [N, K / GROUP_SIZE].
// Output: weights [N, K]. Template: BITS, GROUP_SIZE.
// One thread unpacks one word: thread i of the grid has word i of the whole matrix.

const uint word_index = thread_position_in_grid.x;
const uint n_words = uint(packed_shape[0]) * uint(packed_shape[1]);
if (word_index >= n_words) {
    return; // The last threadgroup may reach beyond the matrix.
}
// [task 2.3.1] dequantize
const uint per_word = 32 / BITS;
const uint word = packed[word_index];
// Rows are whole groups and groups are whole words, so words are counted through all rows.
const uint group = word_index / (GROUP_SIZE / per_word);
const float scale = float(scales[group]);
const float bias = float(biases[group]);
float values[8];
#pragma unroll
for (uint i = 0; i < per_word; i++) {
    values[i] = fma(scale, float(packed_integer<BITS>(word, i)), bias);
}
store_word<BITS>(weights + size_t(word_index) * per_word, values);
// [end]
