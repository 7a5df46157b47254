// The float `1 + integer / 2^BITS` for integer `i` of a packed word, exactly.
//
// A float between 1 and 2 has the fixed sign and exponent 0x3F800000; its value is 1 plus what stands in the 23 bits of
// the fraction. So an integer that is moved to the top of the fraction is a float already, and no conversion is needed.
template <int BITS>
inline float one_plus_fraction(uint word, int i) {
    // [task 2.3.3] one_plus_fraction
    todo!("week 2 day 3 task 3: one_plus_fraction - see book/src/week2/day3.md");
    // [end]
}
