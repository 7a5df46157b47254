// The product of two tiles for all lanes of a SIMD group.

EMU_RUNTIME void emu_tile_multiply_add(void* const* lanes, uint32_t n_lanes) {
  if (n_lanes != emu::LANES) return;
  float b[16][16];
  for (uint32_t lane = 0; lane < emu::LANES; ++lane) {
    __builtin_memcpy(&b[lane / 2][lane % 2 * 8], static_cast<const emu::TileProduct*>(lanes[lane])->b, 32);
  }
  for (uint32_t row = 0; row < 16; ++row) {
    const auto* left = static_cast<const emu::TileProduct*>(lanes[2 * row]);
    const auto* right = static_cast<const emu::TileProduct*>(lanes[2 * row + 1]);
    float sums[16], a[16];
    __builtin_memcpy(sums, left->sums, 32);
    __builtin_memcpy(sums + 8, right->sums, 32);
    __builtin_memcpy(a, left->a, 32);
    __builtin_memcpy(a + 8, right->a, 32);
    for (uint32_t k = 0; k < 16; ++k) {
      for (uint32_t column = 0; column < 16; ++column) sums[column] += a[k] * b[k][column];
    }
    __builtin_memcpy(left->sums, sums, 32);
    __builtin_memcpy(right->sums, sums + 8, 32);
  }
}
