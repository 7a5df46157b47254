// On x86-64 mlx-c's half.h names no half-precision types. Any 16-bit types do: they are only passed by pointer.
// _Float16 makes bindgen emit the newtype that mlx-rs expects for float16; it expects a plain integer for bfloat16.
#define HAS_FLOAT16
#define HAS_BFLOAT16
typedef _Float16 float16_t;
typedef unsigned short bfloat16_t;
