// MLX's Linux wheel links the reference BLAS, which multiplies matrices about thirty times slower than OpenBLAS.
// This library is the first in an executable's search order, so MLX's calls land here and go on to OpenBLAS,
// whose symbols carry the prefix `scipy_` in the wheel that we take it from.

namespace {

// The values of CBLAS_ORDER and CBLAS_TRANSPOSE in the CBLAS standard.
constexpr int kRowMajor = 101;
constexpr int kNoTranspose = 111;
constexpr int kTranspose = 112;

}  // namespace

#define DECLARE(name, scalar, pointer)                                                              \
  extern "C" void scipy_##name(int, int, int, int, int, int, scalar, const pointer*, int,           \
                               const pointer*, int, scalar, pointer*, int);

#define FORWARD(name, scalar, pointer)                                                              \
  extern "C" void name(int order, int transpose_a, int transpose_b, int m, int n, int k,            \
                       scalar alpha, const pointer* a, int lda, const pointer* b, int ldb,          \
                       scalar beta, pointer* c, int ldc) {                                          \
    scipy_##name(order, transpose_a, transpose_b, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);    \
  }

DECLARE(cblas_sgemm, float, float)
DECLARE(cblas_dgemm, double, double)
DECLARE(cblas_cgemm, const void*, void)
FORWARD(cblas_dgemm, double, double)
FORWARD(cblas_cgemm, const void*, void)

extern "C" void scipy_cblas_sgemv(int, int, int, int, float, const float*, int, const float*, int, float,
                                  float*, int);

extern "C" void cblas_sgemm(int order, int transpose_a, int transpose_b, int m, int n, int k, float alpha,
                            const float* a, int lda, const float* b, int ldb, float beta, float* c, int ldc) {
  // A single row is what decoding multiplies with every weight. The general product first copies the weight into
  // tiles; the matrix-vector product reads it once, which is several times faster.
  if (order == kRowMajor && m == 1 && n > 0 && k > 0) {
    const int stride_a = transpose_a == kTranspose ? lda : 1;
    const bool rows_are_outputs = transpose_b == kTranspose;  // B is stored as [n, k]
    scipy_cblas_sgemv(kRowMajor, rows_are_outputs ? kNoTranspose : kTranspose, rows_are_outputs ? n : k,
                      rows_are_outputs ? k : n, alpha, b, ldb, a, stride_a, beta, c, 1);
    return;
  }
  scipy_cblas_sgemm(order, transpose_a, transpose_b, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
}
