// The product of two tiles for all lanes of a SIMD group.

EMU_RUNTIME void emu_tile_multiply_add(void* const* lanes, uint32_t n_lanes) {
  if (n_lanes != emu::LANES) return;
  float a[16][16], b[16][16];
  for (uint32_t lane = 0; lane < emu::LANES; ++lane) {
    const auto* mine = static_cast<const emu::TileProduct*>(lanes[lane]);
    for (uint32_t i = 0; i < 8; ++i) {
      a[emu::tile_row(lane, i)][emu::tile_column(lane, i)] = mine->a[i];
      b[emu::tile_depth(lane, i)][emu::tile_width(lane, i)] = mine->b[i];
    }
  }
  for (uint32_t lane = 0; lane < emu::LANES; ++lane) {
    const auto* mine = static_cast<const emu::TileProduct*>(lanes[lane]);
    for (uint32_t i = 0; i < 8; ++i) {
      const uint32_t row = emu::tile_row(lane, i), column = emu::tile_column(lane, i);
      float sum = mine->sums[i];
      for (uint32_t k = 0; k < 16; ++k) sum += a[row][k] * b[k][column];
      mine->sums[i] = sum;
    }
  }
}
