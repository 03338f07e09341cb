// libcublas on the CPU: the products that dfdx 0.13 asks for in float and double. Column-major, and each
// element of the result is one sum in index order.
#include <cstddef>

#define API extern "C" __attribute__((visibility("default"))) int

API cublasCreate_v2(void **handle) {
    *handle = (void *)8;
    return 0;
}
API cublasDestroy_v2(void *) { return 0; }
API cublasSetStream_v2(void *, void *) { return 0; }
API cublasGetStream_v2(void *, void **stream) {
    *stream = nullptr;
    return 0;
}
API cublasSetMathMode(void *, int) { return 0; }

// C = alpha op(A) op(B) + beta C
template <class T>
static int gemm(int trans_a, int trans_b, int m, int n, int k, T alpha, const T *a, int lda, const T *b, int ldb,
                T beta, T *c, int ldc) {
    for (int j = 0; j < n; j++)
        for (int i = 0; i < m; i++) {
            T sum = 0;
            for (int p = 0; p < k; p++) {
                const T left = trans_a ? a[(size_t)i * lda + p] : a[(size_t)p * lda + i];
                const T right = trans_b ? b[(size_t)p * ldb + j] : b[(size_t)j * ldb + p];
                sum += left * right;
            }
            T &result = c[(size_t)j * ldc + i];
            // As cuBLAS, which does not read C when beta is 0.
            result = beta == (T)0 ? alpha * sum : alpha * sum + beta * result;
        }
    return 0;
}

#define GEMM(letter, T)                                                                                            \
    API cublas##letter##gemm_v2(void *, int ta, int tb, int m, int n, int k, const T *alpha, const T *a, int lda,  \
                                const T *b, int ldb, const T *beta, T *c, int ldc) {                               \
        return gemm<T>(ta, tb, m, n, k, *alpha, a, lda, b, ldb, *beta, c, ldc);                                    \
    }                                                                                                              \
    API cublas##letter##gemmStridedBatched(void *, int ta, int tb, int m, int n, int k, const T *alpha,            \
                                           const T *a, int lda, long long stride_a, const T *b, int ldb,           \
                                           long long stride_b, const T *beta, T *c, int ldc, long long stride_c,   \
                                           int count) {                                                            \
        for (int i = 0; i < count; i++)                                                                            \
            gemm<T>(ta, tb, m, n, k, *alpha, a + i * stride_a, lda, b + i * stride_b, ldb, *beta,                  \
                    c + i * stride_c, ldc);                                                                        \
        return 0;                                                                                                  \
    }

GEMM(S, float)
GEMM(D, double)

// cudarc links the half-precision products; this project does not use them.
static const int NOT_SUPPORTED = 15;
API cublasHgemm(...) { return NOT_SUPPORTED; }
API cublasHgemmStridedBatched(...) { return NOT_SUPPORTED; }
API cublasGemmEx(...) { return NOT_SUPPORTED; }
API cublasGemmStridedBatchedEx(...) { return NOT_SUPPORTED; }
