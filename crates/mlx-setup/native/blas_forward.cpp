// MLX's Linux wheel links the reference BLAS, which multiplies matrices about thirty times slower than OpenBLAS.
// This library is the first in an executable's search order, so MLX's calls land here and go on to OpenBLAS,
// whose symbols carry the prefix `scipy_` in the wheel that we take it from.

#define FORWARD(name, scalar, pointer)                                                             \
  extern "C" void scipy_##name(int, int, int, int, int, int, scalar, const pointer*, int,           \
                               const pointer*, int, scalar, pointer*, int);                         \
  extern "C" void name(int order, int transpose_a, int transpose_b, int m, int n, int k,            \
                       scalar alpha, const pointer* a, int lda, const pointer* b, int ldb,          \
                       scalar beta, pointer* c, int ldc) {                                          \
    scipy_##name(order, transpose_a, transpose_b, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);    \
  }

FORWARD(cblas_sgemm, float, float)
FORWARD(cblas_dgemm, double, double)
FORWARD(cblas_cgemm, const void*, void)
