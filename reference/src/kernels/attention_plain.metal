// Attention, one SIMD group for each query: no tiles, no threadgroup memory. Takes every mask and every head size.
//
// - query `[B, H_q, L, D]`, key and value `[B, H_kv, S, D]`, mask `[B, H_q, L, S]` (any array where MASK says that
//   there is none); out `[B, H_q, L, D]`, of type T
// - template: T, the type of query, key and value; M, the type of the mask; D; MASK: 0 none, 1 causal, 2 allowed
//   (M is uchar, 1: may attend), 3 additive; SCALE_BITS, the scale as the bits of a float
// - grid: 32 threads for each query; threadgroups of any number of SIMD groups
constexpr int PER_LANE = (D + 31) / 32;
const float scale = as_type<float>(SCALE_BITS);
const int num_heads = query_shape[1];
const int query_len = query_shape[2];
const int group = num_heads / key_shape[1];
const int key_len = key_shape[2];

const int lane = thread_index_in_simdgroup;
const int row = thread_position_in_grid.x / 32; // of B * H_q * L
if (row >= query_shape[0] * num_heads * query_len) {
    return;
}
const int position = row % query_len;
const int head = row / query_len % num_heads;
const int batch = row / query_len / num_heads;

// [task 2.5.1] attention_plain
const device T* q = query + batch * query_strides[0] + head * query_strides[1] + position * query_strides[2];
const device T* k = key + batch * key_strides[0] + head / group * key_strides[1];
const device T* v = value + batch * value_strides[0] + head / group * value_strides[1];
const device M* m = mask;
if (MASK >= 2) {
    m += batch * mask_strides[0] + head * mask_strides[1] + position * mask_strides[2];
}

// Number i of this lane is number lane + 32 * i of the head: neighbouring lanes read neighbouring numbers.
float scaled_query[PER_LANE];
float accumulator[PER_LANE];
for (int i = 0; i < PER_LANE; ++i) {
    const int d = lane + 32 * i;
    scaled_query[i] = d < D ? scale * float(q[d * query_strides[3]]) : 0.0f;
    accumulator[i] = 0.0f;
}
float max_score = LOWEST;
float sum = 0.0f;

const int n_visible = MASK == 1 ? position + (key_len - query_len) + 1 : key_len;
for (int j = 0; j < n_visible; ++j) {
    if (MASK == 2 && m[j * mask_strides[3]] == M(0)) {
        continue;
    }
    float part = 0.0f;
    for (int i = 0; i < PER_LANE; ++i) {
        const int d = lane + 32 * i;
        if (d < D) {
            part += scaled_query[i] * float(k[j * key_strides[2] + d * key_strides[3]]);
        }
    }
    float score = simd_sum(part);
    if (MASK == 3) {
        score += float(m[j * mask_strides[3]]);
    }
    // Every lane has the same score, and so keeps the same maximum and sum.
    const float new_max = max(max_score, score);
    const float keep = exp(max_score - new_max);
    const float weight = exp(score - new_max);
    sum = sum * keep + weight;
    for (int i = 0; i < PER_LANE; ++i) {
        const int d = lane + 32 * i;
        if (d < D) {
            const float number = float(v[j * value_strides[2] + d * value_strides[3]]);
            accumulator[i] = accumulator[i] * keep + weight * number;
        }
    }
    max_score = new_max;
}

// With no visible key this is 0 / 0: NaN, as softmax gives.
for (int i = 0; i < PER_LANE; ++i) {
    const int d = lane + 32 * i;
    if (d < D) {
        out[long(row) * D + d] = T(accumulator[i] / sum);
    }
}
// [end]
