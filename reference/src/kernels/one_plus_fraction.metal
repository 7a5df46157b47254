// The float `1 + integer / 2^BITS` for integer `i` of a packed word, exactly.
//
// A float between 1 and 2 has the fixed sign and exponent 0x3F800000; its value is 1 plus what stands in the 23 bits of
// the fraction. So an integer that is moved to the top of the fraction is a float already, and no conversion is needed.
template <int BITS>
inline float one_plus_fraction(uint word, int i) {
    // [task 2.3.3] one_plus_fraction
    const int up = 23 - BITS - BITS * i; // from where the integer stands to the top of the fraction
    const uint moved = up >= 0 ? word << up : word >> -up;
    const uint fraction = ((1u << BITS) - 1u) << (23 - BITS);
    return as_type<float>((moved & fraction) | 0x3F800000u);
    // [end]
}
