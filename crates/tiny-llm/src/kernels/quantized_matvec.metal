// Inputs: x [M, K], packed [N, K * BITS / 32] uint, scales and biases [N, K / GROUP_SIZE], bias [N].
// Output: out [M, N].
// Template: T (of x and out), TOKENS (of a threadgroup, few), ROWS (outputs of a threadgroup), SIMD_GROUPS, BITS,
// GROUP_SIZE, HAS_BIAS.
//
// A threadgroup computes ROWS neighbouring outputs for TOKENS neighbouring tokens. In one step each of its SIMD groups takes another stretch of K: a
// lane takes 16 bytes of each row, and all rows meet the same part of x.
//
// Within a group, Σ (scale * integer + bias) * x = scale * Σ integer * x + bias * Σ x. The inner loop works with
// v = 1 + integer / 2^BITS, which costs no conversion, and the two sums put it right:
//     Σ integer * x = 2^BITS * (Σ v * x - Σ x)

threadgroup float parts[SIMD_GROUPS * TOKENS * ROWS];
// [task 2.3.3] quantized_matvec
todo!("week 2 day 3 task 3: quantized_matvec - see book/src/week2/day3.md");
// [end]
