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
const uint per_word = 32 / BITS;
const uint words_per_row = K / per_word;
const uint groups_per_row = K / GROUP_SIZE;
float sum = 0.0f;
for (uint w = 0; w < words_per_row; w++) {
    const uint word = packed[size_t(n) * words_per_row + w];
    const size_t group = size_t(n) * groups_per_row + w * per_word / GROUP_SIZE;
    const float scale = float(scales[group]);
    const float offset = float(biases[group]);
    for (uint i = 0; i < per_word; i++) {
        const float weight = fma(scale, float(packed_integer<BITS>(word, i)), offset);
        sum = fma(weight, float(x[size_t(m) * K + w * per_word + i]), sum);
    }
}
if (HAS_BIAS) {
    sum += float(bias[n]);
}
out[size_t(m) * N + n] = T(sum);
// [end]
