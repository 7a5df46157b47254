// What the kernels for quantized matrices share. It stands before their bodies.
//
// A weight is `scale * integer + bias`. The integers of a row lie one after the other in words of 32 bits, the first in
// the lowest bits; each group of neighbours has one scale and one bias.

// Integer `i` of a packed word.
template <int BITS>
inline uint packed_integer(uint word, uint i) {
    // [task 2.3.1] packed_integer
    todo!("week 2 day 3 task 1: packed_integer - see book/src/week2/day3.md");
    // [end]
}

// Eight neighbouring numbers as floats, in one load of 16 bytes (two for float). `from` lies at a multiple of 16 bytes.
inline void load8(const device float* from, thread float* to) {
    const float4 low = *(const device float4*)(from);
    const float4 high = *(const device float4*)(from + 4);
    to[0] = low.x, to[1] = low.y, to[2] = low.z, to[3] = low.w;
    to[4] = high.x, to[5] = high.y, to[6] = high.z, to[7] = high.w;
}

inline void two_halves(uint pair, thread float* to) {
    const half2 halves = as_type<half2>(pair);
    to[0] = float(halves.x), to[1] = float(halves.y);
}

inline void load8(const device half* from, thread float* to) {
    const uint4 pairs = *(const device uint4*)(from);
    two_halves(pairs.x, to), two_halves(pairs.y, to + 2), two_halves(pairs.z, to + 4), two_halves(pairs.w, to + 6);
}

// A bfloat16 is the upper half of a float.
inline void two_bfloats(uint pair, thread float* to) {
    to[0] = as_type<float>(pair << 16), to[1] = as_type<float>(pair & 0xFFFF0000u);
}

inline void load8(const device bfloat16_t* from, thread float* to) {
    const uint4 pairs = *(const device uint4*)(from);
    two_bfloats(pairs.x, to), two_bfloats(pairs.y, to + 2), two_bfloats(pairs.z, to + 4), two_bfloats(pairs.w, to + 6);
}

// Two numbers of 16 bits side by side, as they lie in memory.
template <typename T>
inline uint two_of_16_bits(float low, float high) {
    return uint(as_type<ushort>(T(low))) | (uint(as_type<ushort>(T(high))) << 16);
}

// Four or eight neighbouring numbers, rounded to the type of `to`, in as few stores as can be. `to` lies at a multiple of
// their size in bytes, at most 16.
template <typename T>
inline void store4(device T* to, const thread float* w) {
    *(device uint2*)(to) = uint2(two_of_16_bits<T>(w[0], w[1]), two_of_16_bits<T>(w[2], w[3]));
}

template <typename T>
inline void store8(device T* to, const thread float* w) {
    *(device uint4*)(to) = uint4(two_of_16_bits<T>(w[0], w[1]), two_of_16_bits<T>(w[2], w[3]),
                                 two_of_16_bits<T>(w[4], w[5]), two_of_16_bits<T>(w[6], w[7]));
}

inline void store4(device float* to, const thread float* w) {
    *(device float4*)(to) = float4(w[0], w[1], w[2], w[3]);
}

inline void store8(device float* to, const thread float* w) {
    store4(to, w), store4(to + 4, w + 4);
}

// The numbers of one word: eight of 4 bits or four of 8 bits.
template <int BITS, typename T>
inline void store_word(device T* to, const thread float* weights) {
    if (BITS == 4) {
        store8(to, weights);
    } else {
        store4(to, weights);
    }
}

// The same into threadgroup memory.
template <int BITS, typename T>
inline void store_word_in_tile(threadgroup T* to, const thread float* w) {
    *(threadgroup uint2*)(to) = uint2(two_of_16_bits<T>(w[0], w[1]), two_of_16_bits<T>(w[2], w[3]));
    if (BITS == 4) {
        *(threadgroup uint2*)(to + 4) = uint2(two_of_16_bits<T>(w[4], w[5]), two_of_16_bits<T>(w[6], w[7]));
    }
}

template <int BITS>
inline void store_word_in_tile(threadgroup float* to, const thread float* w) {
    for (int i = 0; i < 32 / BITS; i++) {
        to[i] = w[i];
    }
}
