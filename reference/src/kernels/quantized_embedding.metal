// Inputs: token_ids [M] uint, packed [V, E * BITS / 32] uint, scales and biases [V, E / GROUP_SIZE].
// Output: vectors [M, E]. Template: BITS, GROUP_SIZE.
// A threadgroup looks up one token; its threads share the words of the token's row.

const uint per_word = 32 / BITS;
const uint words_per_row = packed_shape[1];
const uint token = threadgroup_position_in_grid.x;
// [task 2.3.5] quantized_embedding
const uint row = token_ids[token];
// A kernel cannot return an error. A token that the vocabulary lacks becomes NaN, which nobody takes for a vector.
const bool known = row < uint(packed_shape[0]);
for (uint w = thread_position_in_threadgroup.x; w < words_per_row; w += threads_per_threadgroup.x) {
    const size_t at = known ? size_t(row) * words_per_row + w : w;
    const uint word = packed[at];
    const size_t group = at / (GROUP_SIZE / per_word);
    const float scale = known ? float(scales[group]) : NAN;
    const float bias = float(biases[group]);
    float values[8];
    #pragma unroll
    for (uint i = 0; i < per_word; i++) {
        values[i] = fma(scale, float(packed_integer<BITS>(word, i)), bias);
    }
    store_word<BITS>(vectors + (size_t(token) * words_per_row + w) * per_word, values);
}
// [end]
