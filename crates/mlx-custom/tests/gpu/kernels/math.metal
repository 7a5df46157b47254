// One row per function.
const uint i = thread_position_in_grid.x;
const uint n = threads_per_grid.x;
const float x = a[i];
const float p = metal::abs(x) + 0.25f;
float values[] = {
    exp(x),         exp2(x),         metal::fast::exp(x), log(p),         metal::precise::log(p), rsqrt(p),
    sqrt(p),        max(x, 0.5f),    min(x, 0.5f),        clamp(x, -1.0f, 1.0f), fma(x, p, 1.0f), select(x, p, x < 0),
    floor(x),       sin(x),          cos(x),              abs(x),         precise::exp(x),        isnan(x) ? 1.0f : 0.0f,
    isinf(p * INFINITY) ? 1.0f : 0.0f,
    -INFINITY < x ? 1.0f : 0.0f,
};
for (uint f = 0; f < 20; f++) {
  out[f * n + i] = values[f];
}
