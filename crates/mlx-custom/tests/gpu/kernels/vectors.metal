// 8 halves per thread through one load of 16 bytes; arithmetic on vectors; the same bits as other types.
const uint i = thread_position_in_grid.x;
const uint4 words = *(const device uint4*)(a + 8 * i);
float4 low = float4(float2(as_type<half2>(words.x)).x, float(as_type<half2>(words.x)[1]), as_type<half2>(words[1]).x,
                    as_type<half2>(words.y).y);
half2 pair = as_type<half2>(words.w);
float4 factor = float4(0.5f);
factor.y = 2.0f;
factor[3] = 4.0f;
float4 result = low * factor + 1.0f;
result -= float4(1, 2, 3, 4);
*(device float4*)(floats + 4 * i) = result;

uint4 nibbles = (words >> 4) & 15u;
uint sum = 0;
for (int n = 0; n < 4; n++) {
  sum += nibbles[n] << (4 * n);
}
bits[2 * i] = sum;
bits[2 * i + 1] = as_type<uint>(float(pair.x)) ^ as_type<uint>(-result.z);

const half4 four = *(const device half4*)(a + 8 * i + 4);
bfloat4 small = bfloat4(bfloat16_t(float(four.x)), bfloat16_t(float(four.y)), bfloat16_t(float(four.z)), bfloat16_t(1.5f));
*(device bfloat4*)(brains + 4 * i) = small;
