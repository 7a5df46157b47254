// What a matvec on matrix units adds to the functions of quantized matrices.

// Two integers of 4 bits as `1 + integer / 16`, in the two halves of a word: integers `i` and `i + 4` of `word`.
//
// As `one_plus_fraction`, for numbers of 16 bits: the integers are moved to the top of the two fractions, and the exponents of
// 1.0 put in front. bfloat16 has 7 bits of fraction, half has 10.
template <typename T>
struct FractionPair;
template <>
struct FractionPair<half> {
    static constexpr constant uint MASK = 0x03C003C0u;
    static constexpr constant uint ONES = 0x3C003C00u;
    static constexpr constant int TOP = 6;
};
template <>
struct FractionPair<bfloat16_t> {
    static constexpr constant uint MASK = 0x00780078u;
    static constexpr constant uint ONES = 0x3F803F80u;
    static constexpr constant int TOP = 3;
};

// `mask` is `FractionPair<T>::MASK`, from a register.
template <typename T>
inline uint one_plus_fraction_pair(uint word, int i, uint mask) {
    const int up = FractionPair<T>::TOP - 4 * i;
    return ((up >= 0 ? word << up : word >> -up) & mask) | FractionPair<T>::ONES;
}

// The lower halves of two words side by side, and the upper ones.
inline uint lower_halves(uint a, uint b) {
    return as_type<uint>(ushort2(ushort(a), ushort(b)));
}

inline uint upper_halves(uint a, uint b) {
    return as_type<uint>(ushort2(ushort(a >> 16), ushort(b >> 16)));
}

// 1, 2 or 4 words in one load. For few tokens every weight is read once, while x and the scales are read again and again.
template <int WORDS>
inline void load_words(const device uint* from, thread uint* to) {
    if (WORDS == 4) {
        const uint4 words = load_streamed((const device uint4*)(from));
        to[0] = words.x, to[1] = words.y, to[2] = words.z, to[3] = words.w;
    } else if (WORDS == 2) {
        const uint2 words = load_streamed((const device uint2*)(from));
        to[0] = words.x, to[1] = words.y;
    } else {
        to[0] = load_streamed(from);
    }
}

// 1 or 2 neighbours, which begin at a multiple of their size.
template <int N>
inline void load_neighbours(const device float* from, thread float* to) {
    #pragma unroll
    for (int i = 0; i < N; i++) {
        to[i] = from[i];
    }
}

template <int N>
inline void load_neighbours(const device half* from, thread float* to) {
    if (N == 2) {
        two_halves(*(const device uint*)(from), to);
    } else {
        to[0] = float(from[0]);
    }
}

template <int N>
inline void load_neighbours(const device bfloat16_t* from, thread float* to) {
    if (N == 2) {
        two_bfloats(*(const device uint*)(from), to);
    } else {
        to[0] = float(from[0]);
    }
}

// silu(gate) * up. An exponent that is not positive neither overflows nor loses a small result.
inline float gated(float gate, float up) {
    const float decay = exp(-abs(gate));
    return gate * (gate < 0.0f ? decay : 1.0f) / (1.0f + decay) * up;
}
