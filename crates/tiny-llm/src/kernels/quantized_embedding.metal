// Inputs: token_ids [M] uint, packed [V, E * BITS / 32] uint, scales and biases [V, E / GROUP_SIZE].
// Output: vectors [M, E]. Template: BITS, GROUP_SIZE.
// A threadgroup looks up one token; its threads share the words of the token's row.

const uint per_word = 32 / BITS;
const uint words_per_row = packed_shape[1];
const uint token = threadgroup_position_in_grid.x;
// [task 2.3.5] quantized_embedding
todo!("week 2 day 3 task 5: quantized_embedding - see book/src/week2/day3.md");
// [end]
