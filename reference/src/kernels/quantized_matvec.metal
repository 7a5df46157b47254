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
const int M = x_shape[0];
const int K = x_shape[1];
const int N = packed_shape[0];
// Threadgroups of the same outputs are neighbours, so that their weights come from memory once.
const int token_blocks = (M + TOKENS - 1) / TOKENS;
const int first_token = int(threadgroup_position_in_grid.x) % token_blocks * TOKENS;
const int first_row = int(threadgroup_position_in_grid.x) / token_blocks * ROWS;
const int per_word = 32 / BITS;
const int per_lane = 4 * per_word; // weights in 16 bytes
const int stretch = 32 * per_lane;
const float steps = float(1 << BITS);

float sums[TOKENS * ROWS];
#pragma unroll
for (int i = 0; i < TOKENS * ROWS; i++) {
    sums[i] = 0.0f;
}
const int lane_start = int(simdgroup_index_in_threadgroup) * stretch + int(thread_index_in_simdgroup) * per_lane;
for (int k = lane_start; k < K; k += SIMD_GROUPS * stretch) {
    // Everything that comes from far away is asked for before anything is used.
    uint words[ROWS * 4];
    float scale[ROWS];
    float offset[ROWS];
    #pragma unroll
    for (int r = 0; r < ROWS; r++) {
        const size_t row = min(first_row + r, N - 1); // Past the end: the last one again, not stored.
        const uint4 loaded = *(const device uint4*)(packed + row * (K / per_word) + k / per_word);
        words[4 * r] = loaded.x, words[4 * r + 1] = loaded.y;
        words[4 * r + 2] = loaded.z, words[4 * r + 3] = loaded.w;
        const size_t group = row * (K / GROUP_SIZE) + k / GROUP_SIZE;
        scale[r] = float(scales[group]);
        offset[r] = float(biases[group]);
    }
    float products[TOKENS * ROWS]; // Σ v * x
    float x_sums[TOKENS];          // Σ x
    #pragma unroll
    for (int i = 0; i < TOKENS * ROWS; i++) {
        products[i] = 0.0f;
    }
    #pragma unroll
    for (int m = 0; m < TOKENS; m++) {
        x_sums[m] = 0.0f;
    }
    #pragma unroll
    for (int part = 0; part < per_lane; part += 8) {
        float v[ROWS * 8];
        #pragma unroll
        for (int i = 0; i < ROWS * 8; i++) {
            const int at = part + i % 8;
            v[i] = one_plus_fraction<BITS>(words[i / 8 * 4 + at / per_word], at % per_word);
        }
        #pragma unroll
        for (int m = 0; m < TOKENS; m++) {
            const size_t token = min(first_token + m, M - 1);
            float x8[8];
            load8(x + token * K + k + part, x8);
            #pragma unroll
            for (int i = 0; i < 8; i++) {
                x_sums[m] += x8[i];
                #pragma unroll
                for (int r = 0; r < ROWS; r++) {
                    products[m * ROWS + r] = fma(v[r * 8 + i], x8[i], products[m * ROWS + r]);
                }
            }
        }
    }
    #pragma unroll
    for (int m = 0; m < TOKENS; m++) {
        #pragma unroll
        for (int r = 0; r < ROWS; r++) {
            const float integer_sum = steps * (products[m * ROWS + r] - x_sums[m]);
            sums[m * ROWS + r] += fma(scale[r], integer_sum, offset[r] * x_sums[m]);
        }
    }
}
#pragma unroll
for (int i = 0; i < TOKENS * ROWS; i++) {
    sums[i] = simd_sum(sums[i]);
}
if (thread_index_in_simdgroup == 0) {
    #pragma unroll
    for (int i = 0; i < TOKENS * ROWS; i++) {
        parts[simdgroup_index_in_threadgroup * (TOKENS * ROWS) + i] = sums[i];
    }
}
threadgroup_barrier(mem_flags::mem_threadgroup);
for (int i = int(thread_index_in_threadgroup); i < TOKENS * ROWS; i += 32 * SIMD_GROUPS) {
    const int m = first_token + i / ROWS;
    const int n = first_row + i % ROWS;
    if (m < M && n < N) {
        float sum = HAS_BIAS ? float(bias[n]) : 0.0f;
        for (int part = 0; part < SIMD_GROUPS; part++) {
            sum += parts[part * (TOKENS * ROWS) + i];
        }
        out[size_t(m) * N + n] = T(sum);
    }
}
// [end]
