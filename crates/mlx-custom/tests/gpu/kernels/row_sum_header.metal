// Functions of a header: templates, with address spaces.
template <typename T>
inline float load(const device T* from, uint at) {
  return float(from[at]);
}

inline void store(threadgroup float* to, float value) { *to = value; }
