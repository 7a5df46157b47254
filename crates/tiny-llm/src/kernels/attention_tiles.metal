// Functions for attention on matrix tiles: rows on their way to threadgroup memory, and softmax over the rows of tiles.

/// Rows of a tile in threadgroup memory begin 16 bytes further than they would have to: the rows that a SIMD group reads
/// at the same time then lie in different banks.
constant constexpr int PADDING = 8;

/// Starts to copy `ROWS` rows of D numbers to threadgroup memory, each `D + PADDING` behind the one before. Rows from
/// `n_rows` on become 0. All `THREADS` threads of the threadgroup take part.
template <typename T, int D, int ROWS, int THREADS>
inline void load_rows(
    threadgroup T* to, const device T* from, long row_stride, long stride, int n_rows, bool is_wide, int thread_index) {
    constexpr int WIDE = 16 / sizeof(T);
    constexpr int PARTS = D / WIDE;
    for (int index = thread_index; index < ROWS * PARTS; index += THREADS) {
        const int row = index / PARTS;
        const int part = index % PARTS;
        threadgroup T* place = to + row * (D + PADDING) + part * WIDE;
        const device T* source = from + row * row_stride + part * WIDE * stride;
        if (row < n_rows && is_wide) {
            async_copy16(place, source);
        } else {
            for (int i = 0; i < WIDE; ++i) {
                place[i] = row < n_rows ? source[i * stride] : T(0.0f);
            }
        }
    }
}

/// Hides the keys that a row does not see: row r sees `n_visible + r * more_each_row` columns.
struct HideKeys {
    int n_visible;
    int more_each_row;
    inline void operator()(ushort row, ushort column, thread float& score) const {
        if (int(column) >= n_visible + int(row) * more_each_row) {
            score = -INFINITY;
        }
    }
};

/// `exp2(score * scale - largest)`, where `largest` is each row's own, already scaled.
struct ScoresToWeights {
    const thread float* largest;
    float scale;
    inline void operator()(ushort row_of_lane, ushort row, ushort column, thread float& score) const {
        score = fast::exp2(score * scale - largest[row_of_lane]);
    }
};

/// Writes two neighbours at a time, of the first `n_rows` rows, to device memory. Rows begin at even places.
template <typename T>
struct WriteAnswer {
    device T* to;
    long row_stride;
    int n_rows;
    inline void operator()(ushort row, ushort column, thread float& left, thread float& right) const {
        if (row < n_rows) {
            *(device uint*)(to + row * row_stride + column) = bits_of(T(left)) | bits_of(T(right)) << 16;
        }
    }
};
