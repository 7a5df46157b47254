// Functions for the attention kernels: which row is which query, and 16 bytes of a row at a time.

/// Where a maximum starts. It is finite, so that `exp2(score - maximum)` is 0 and not NaN for a score of minus infinity
/// when nothing has been visible yet.
constant constexpr float LOWEST = -3.4028234663852886e38f;
constant constexpr float LOG2_E = 1.4426950408889634f;

inline uint bits_of(half number) {
    return uint(as_type<ushort>(number));
}

inline uint bits_of(bfloat16_t number) {
    return uint(as_type<ushort>(number));
}

/// Whether a lane may take 16 bytes of any row of `[B, H, N, D]` at once: D is contiguous, rows begin at multiples of
/// 16 bytes.
template <typename T, typename Strides>
inline bool has_wide_rows(const device T* start, Strides strides) {
    const long wide = 16 / long(sizeof(T));
    return strides[3] == 1 && ulong(start) % 16 == 0 && strides[0] % wide == 0 && strides[1] % wide == 0 &&
           strides[2] % wide == 0;
}

/// 16 bytes of a row from `from` on: 4 numbers of f32, 8 of the others, `stride` apart unless `is_wide`.
template <typename T>
inline uint4 load_wide(const device T* from, long stride, bool is_wide) {
    if (is_wide) {
        return *(const device uint4*)(from);
    }
    return uint4(
        bits_of(from[0]) | bits_of(from[stride]) << 16,
        bits_of(from[2 * stride]) | bits_of(from[3 * stride]) << 16,
        bits_of(from[4 * stride]) | bits_of(from[5 * stride]) << 16,
        bits_of(from[6 * stride]) | bits_of(from[7 * stride]) << 16);
}

template <>
inline uint4 load_wide<float>(const device float* from, long stride, bool is_wide) {
    if (is_wide) {
        return *(const device uint4*)(from);
    }
    return uint4(
        as_type<uint>(from[0]),
        as_type<uint>(from[stride]),
        as_type<uint>(from[2 * stride]),
        as_type<uint>(from[3 * stride]));
}

/// The numbers in two halves of a word. The third argument only says which type they have.
inline void widen(uint word, thread float* numbers, half) {
    numbers[0] = float(as_type<half>(ushort(word & 0xffff)));
    numbers[1] = float(as_type<half>(ushort(word >> 16)));
}

/// bfloat16 is the upper half of a float.
inline void widen(uint word, thread float* numbers, bfloat16_t) {
    numbers[0] = as_type<float>(word << 16);
    numbers[1] = as_type<float>(word & 0xffff0000u);
}

/// The `16 / sizeof(T)` numbers in 16 bytes, as f32.
template <typename T>
inline void unpack_wide(uint4 words, thread float* numbers) {
    widen(words.x, numbers, T());
    widen(words.y, numbers + 2, T());
    widen(words.z, numbers + 4, T());
    widen(words.w, numbers + 6, T());
}

template <>
inline void unpack_wide<float>(uint4 words, thread float* numbers) {
    numbers[0] = as_type<float>(words.x);
    numbers[1] = as_type<float>(words.y);
    numbers[2] = as_type<float>(words.z);
    numbers[3] = as_type<float>(words.w);
}
