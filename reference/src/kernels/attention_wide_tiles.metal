// Rows on their way to a wide tile in threadgroup memory.

/// Starts to copy `ROWS` rows of D numbers into a wide tile. Rows from `n_rows` on become 0. All `THREADS` threads of the
/// threadgroup take part.
template <typename T, int D, int ROWS, int THREADS>
inline void load_wide_tile(
    threadgroup T* to, const device T* from, long row_stride, long stride, int n_rows, bool is_wide, int thread_index) {
    constexpr int WIDE = 16 / sizeof(T);
    constexpr int PARTS = D / WIDE;
    constexpr int STEP = THREADS / PARTS; // rows that all threads fetch at once
    static_assert(THREADS % PARTS == 0 && ROWS % STEP == 0, "every thread fetches as much");
    const int first = thread_index / PARTS;
    const int column = thread_index % PARTS * WIDE;
    if (is_wide) {
        const device T* source = from + first * row_stride + column;
        #pragma unroll
        for (int i = 0; i < ROWS / STEP; ++i) {
            const int row = first + i * STEP;
            async_copy16(to + wide_place<ROWS, D>(row, column), source, row < n_rows);
            source += STEP * row_stride;
        }
    } else {
        // Not unrolled: it is there six times, and seldom needed.
        #pragma unroll 1
        for (int row = first; row < ROWS; row += STEP) {
            threadgroup uint4* place = (threadgroup uint4*)(to + wide_place<ROWS, D>(row, column));
            *place = row < n_rows ? load_wide(from + row * row_stride + column * stride, stride, false) : uint4(0);
        }
    }
}
