// The words of Metal that C++ doesn't have. Address spaces are checked by address, not by type.

#define device
#define constant
#define thread
#define threadgroup

#define EMU_UINT3(ARRAY) (uint3((ARRAY)[0], (ARRAY)[1], (ARRAY)[2]))

namespace emu {

template <typename T>
inline constexpr uint32_t number_bytes = alignof(T) < 8 ? alignof(T) : 8;
template <typename T, int N>
inline constexpr uint32_t number_bytes<vec<T, N>> = sizeof(T);

template <typename T>
struct ElementOf { using type = T; };
template <typename T, unsigned long N>
struct ElementOf<T[N]> { using type = typename ElementOf<T>::type; };

// Memory of type `T` (float[8], half[16][72], uint) that the threads of a threadgroup share.
template <typename T>
EMU_INLINE T& threadgroup_memory(uint32_t number, const char* name) {
  using Element = typename ElementOf<T>::type;
  return *static_cast<T*>(
      emu_threadgroup_array(number, name, sizeof(T), sizeof(Element), number_bytes<Element>));
}

}  // namespace emu
