// What the SIMD group's functions give lane by lane: 10 rows of all threads.
uint i = thread_position_in_grid.x;
uint n = threads_per_grid.x;
uint lane = thread_index_in_simdgroup;
T x = a[i];
out[i] = simd_sum(x);
out[n + i] = simd_max(x);
out[2 * n + i] = simd_min(x);
out[3 * n + i] = simd_shuffle(x, ushort(31 - lane));
out[4 * n + i] = simd_shuffle_xor(x, 5);
T down = simd_shuffle_down(x, 3);
out[5 * n + i] = lane < 29 ? down : x;
out[6 * n + i] = simd_broadcast(x, 7);
out[7 * n + i] = T(simd_any(x > T(30)));
out[8 * n + i] = T(simd_all(x > T(-1)));
T up = simd_shuffle_up(x, 1);
out[9 * n + i] = lane > 0 ? up : x;
