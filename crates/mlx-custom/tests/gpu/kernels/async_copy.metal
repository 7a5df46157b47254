// Running sums of blocks of 128 floats that arrive in two buffers by turns; blocks from `n_valid` on count as zeros.
threadgroup float4 buffers[2][32];
const uint lane = thread_index_in_threadgroup;
const uint n_blocks = a_shape[0] / 128;
const uint n_valid = limit[0];
async_copy16(&buffers[0][lane], a + 4 * lane);
async_commit();
float4 sum = float4(0);
for (uint block = 0; block < n_blocks; block++) {
  if (block + 1 < n_blocks) {
    async_copy16(&buffers[(block + 1) % 2][lane], a + 128 * (block + 1) + 4 * lane, block + 1 < n_valid);
  }
  async_commit();
  async_wait<1>();
  threadgroup_barrier(mem_flags::mem_threadgroup);
  sum += buffers[block % 2][31 - lane];
  threadgroup_barrier(mem_flags::mem_threadgroup);
}
*(device float4*)(out + 4 * lane) = sum;
