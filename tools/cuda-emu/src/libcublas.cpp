// libcublas on the CPU: products in float and double, and of bf16 with sums in float. Column-major, and each
// element of the result is one sum in index order, whatever the other sizes are.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <dlfcn.h>
#include <map>
#include <mutex>
#include <set>

#define API extern "C" __attribute__((visibility("default"))) int

enum { SUCCESS = 0, INVALID_VALUE = 7, NOT_SUPPORTED = 15 };
// cudaDataType_t, cublasComputeType_t, cublasMath_t
enum { R_32F = 0, R_16BF = 14 };
enum { COMPUTE_32F = 68, COMPUTE_32F_FAST_TF32 = 77 };
enum { TF32_MATH = 3 };

// ---- handles: their math mode is all that matters here

static std::mutex mutex;
static std::set<void *> with_tf32;
static std::map<void *, void *> streams;

API cublasCreate_v2(void **handle) {
    *handle = malloc(1);
    return SUCCESS;
}
API cublasDestroy_v2(void *handle) {
    std::lock_guard<std::mutex> lock(mutex);
    with_tf32.erase(handle);
    streams.erase(handle);
    free(handle);
    return SUCCESS;
}
API cublasSetStream_v2(void *handle, void *stream) {
    std::lock_guard<std::mutex> lock(mutex);
    streams[handle] = stream;
    return SUCCESS;
}
API cublasGetStream_v2(void *handle, void **stream) {
    std::lock_guard<std::mutex> lock(mutex);
    *stream = streams[handle];
    return SUCCESS;
}
API cublasSetMathMode(void *handle, int mode) {
    std::lock_guard<std::mutex> lock(mutex);
    if (mode == TF32_MATH) with_tf32.insert(handle);
    else with_tf32.erase(handle);
    return SUCCESS;
}
API cublasGetMathMode(void *handle, int *mode) {
    std::lock_guard<std::mutex> lock(mutex);
    *mode = with_tf32.count(handle) ? TF32_MATH : 0;
    return SUCCESS;
}

// ---- element types: how they are read and written

static float bits_as_float(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}
static uint32_t float_as_bits(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

struct Bf16 {
    uint16_t bits;
};
// To nearest, ties to even.
static void store(Bf16 &to, float value) {
    const uint32_t u = float_as_bits(value);
    to.bits = (u & 0x7FFFFFFF) > 0x7F800000 ? 0x7FFF : (uint16_t)((u + 0x7FFF + (u >> 16 & 1)) >> 16);
}
static void store(float &to, float value) { to = value; }
static void store(double &to, double value) { to = value; }

static float load(Bf16 from) { return bits_as_float((uint32_t)from.bits << 16); }
static float load(float from) { return from; }
static double load(double from) { return from; }

// TF32 keeps ten bits of the mantissa.
struct Tf32 {
    float value;
};
static float load(Tf32 from) {
    const uint32_t u = float_as_bits(from.value);
    return (u & 0x7F800000) == 0x7F800000 ? from.value : bits_as_float((u + 0x1000) & ~0x1FFFu);
}

// ---- the product

// One matrix as cuBLAS takes it: op(X) where `transposed` says so.
template <class T> struct Matrix {
    const T *at;
    int lead;
    bool transposed;
    T operator()(size_t row, size_t column) const {
        return transposed ? at[row * lead + column] : at[column * lead + row];
    }
};

// A tile of the result is held in registers while k runs.
static const int TILE_M = 32, TILE_N = 6;

// panels[i / TILE][p][i % TILE] = element(i, p); zeros fill the last panel.
template <int TILE, class S, class Element> static S *packed(int count, int k, Element element) {
    const size_t panels = ((size_t)count + TILE - 1) / TILE;
    S *const all = (S *)aligned_alloc(64, (panels * TILE * k * sizeof(S) + 63) / 64 * 64 + 64);
    if (!all) abort();
    for (size_t panel = 0; panel < panels; panel++) {
        S *to = all + panel * TILE * k;
        const int begin = (int)panel * TILE, here = count - begin < TILE ? count - begin : TILE;
        for (int p = 0; p < k; p++, to += TILE) {
            for (int i = 0; i < here; i++) to[i] = element(begin + i, p);
            for (int i = here; i < TILE; i++) to[i] = 0;
        }
    }
    return all;
}

template <class S> static void tile(const S *a, const S *b, int k, S (&sums)[TILE_N][TILE_M]) {
    typedef S Vector __attribute__((vector_size(64)));
    const int WIDTH = 64 / sizeof(S), VECTORS = TILE_M / WIDTH;
    Vector sum[TILE_N][VECTORS] = {};
    for (int p = 0; p < k; p++, a += TILE_M, b += TILE_N) {
        Vector left[VECTORS];
        memcpy(left, a, sizeof left);
#pragma GCC unroll 6
        for (int j = 0; j < TILE_N; j++)
#pragma GCC unroll 4
            for (int v = 0; v < VECTORS; v++) sum[j][v] += left[v] * b[j];
    }
    memcpy(sums, sum, sizeof sums);
}

// C = alpha op(A) op(B) + beta C, with sums in S
template <class S, class T, class R>
static void product(int m, int n, int k, S alpha, const Matrix<T> &a, const Matrix<T> &b, S beta, R *c, int ldc) {
    S *const left = packed<TILE_M, S>(m, k, [&](int i, int p) { return load(a(i, p)); });
    S *const right = packed<TILE_N, S>(n, k, [&](int j, int p) { return load(b(p, j)); });
    for (int j0 = 0; j0 < n; j0 += TILE_N)
        for (int i0 = 0; i0 < m; i0 += TILE_M) {
            S sums[TILE_N][TILE_M];
            tile<S>(left + (size_t)i0 * k, right + (size_t)j0 * k, k, sums);
            for (int j = 0; j < TILE_N && j0 + j < n; j++)
                for (int i = 0; i < TILE_M && i0 + i < m; i++) {
                    R &result = c[(size_t)(j0 + j) * ldc + i0 + i];
                    const S scaled = alpha * sums[j][i];
                    // As cuBLAS, which does not read C when beta is 0.
                    store(result, beta == (S)0 ? scaled : scaled + beta * load(result));
                }
        }
    free(left);
    free(right);
}

struct Shape {
    int trans_a, trans_b, m, n, k, lda, ldb, ldc;
    bool valid() const {
        return m >= 0 && n >= 0 && k >= 0 && lda >= (trans_a ? k : m) && ldb >= (trans_b ? n : k) && ldc >= m &&
               lda > 0 && ldb > 0 && ldc > 0;
    }
};
struct Strides {
    long long a, b, c;
    int count;
};

// Whether all matrices of a batch lie in live memory of the device; true where there is no emulated driver.
static bool in_memory(const void *at, size_t element, int rows, int columns, int lead, long long by, int count) {
    typedef bool (*Inside)(const void *, size_t);
    static const Inside inside = (Inside)dlsym(RTLD_DEFAULT, "emu_inside");
    if (!inside || !rows || !columns) return true;
    const size_t bytes = ((size_t)(columns - 1) * lead + rows) * element;
    for (int i = 0; i < count; i++)
        if (!inside((const char *)at + i * by * (long long)element, bytes)) return false;
    return true;
}

template <class S, class T, class R>
static int products(const Shape &s, S alpha, const void *a, const void *b, S beta, void *c, const Strides &by) {
    if (!s.valid() || by.count < 0) return INVALID_VALUE;
    const bool reads = s.m && s.n, ta = s.trans_a != 0, tb = s.trans_b != 0;
    if ((reads && !in_memory(a, sizeof(T), ta ? s.k : s.m, ta ? s.m : s.k, s.lda, by.a, by.count)) ||
        (reads && !in_memory(b, sizeof(T), tb ? s.n : s.k, tb ? s.k : s.n, s.ldb, by.b, by.count)) ||
        !in_memory(c, sizeof(R), s.m, s.n, s.ldc, by.c, by.count))
        return INVALID_VALUE;
    for (int i = 0; i < by.count; i++) {
        const Matrix<T> left = {(const T *)a + i * by.a, s.lda, s.trans_a != 0};
        const Matrix<T> right = {(const T *)b + i * by.b, s.ldb, s.trans_b != 0};
        product<S, T, R>(s.m, s.n, s.k, alpha, left, right, beta, (R *)c + i * by.c, s.ldc);
    }
    return SUCCESS;
}

static int products_f32(void *handle, const Shape &s, float alpha, const void *a, const void *b, float beta, void *c,
                        const Strides &by) {
    int mode;
    cublasGetMathMode(handle, &mode);
    return mode == TF32_MATH ? products<float, Tf32, float>(s, alpha, a, b, beta, c, by)
                             : products<float, float, float>(s, alpha, a, b, beta, c, by);
}

API cublasSgemm_v2(void *handle, int ta, int tb, int m, int n, int k, const float *alpha, const void *a, int lda,
                   const void *b, int ldb, const float *beta, void *c, int ldc) {
    return products_f32(handle, {ta, tb, m, n, k, lda, ldb, ldc}, *alpha, a, b, *beta, c, {0, 0, 0, 1});
}
API cublasSgemmStridedBatched(void *handle, int ta, int tb, int m, int n, int k, const float *alpha, const void *a,
                              int lda, long long by_a, const void *b, int ldb, long long by_b, const float *beta,
                              void *c, int ldc, long long by_c, int count) {
    return products_f32(handle, {ta, tb, m, n, k, lda, ldb, ldc}, *alpha, a, b, *beta, c, {by_a, by_b, by_c, count});
}
API cublasDgemm_v2(void *, int ta, int tb, int m, int n, int k, const double *alpha, const void *a, int lda,
                   const void *b, int ldb, const double *beta, void *c, int ldc) {
    return products<double, double, double>({ta, tb, m, n, k, lda, ldb, ldc}, *alpha, a, b, *beta, c, {0, 0, 0, 1});
}
API cublasDgemmStridedBatched(void *, int ta, int tb, int m, int n, int k, const double *alpha, const void *a,
                              int lda, long long by_a, const void *b, int ldb, long long by_b, const double *beta,
                              void *c, int ldc, long long by_c, int count) {
    const Shape shape = {ta, tb, m, n, k, lda, ldb, ldc};
    return products<double, double, double>(shape, *alpha, a, b, *beta, c, {by_a, by_b, by_c, count});
}

// The rows of cuBLAS' table of types that are used here; alpha and beta are floats.
API cublasGemmStridedBatchedEx(void *, int ta, int tb, int m, int n, int k, const float *alpha, const void *a,
                               int type_a, int lda, long long by_a, const void *b, int type_b, int ldb,
                               long long by_b, const float *beta, void *c, int type_c, int ldc, long long by_c,
                               int count, int compute, int) {
    const Shape shape = {ta, tb, m, n, k, lda, ldb, ldc};
    const Strides by = {by_a, by_b, by_c, count};
    if (type_a != type_b) return NOT_SUPPORTED;
    if (compute == COMPUTE_32F && type_a == R_16BF && type_c == R_16BF)
        return products<float, Bf16, Bf16>(shape, *alpha, a, b, *beta, c, by);
    if (compute == COMPUTE_32F && type_a == R_16BF && type_c == R_32F)
        return products<float, Bf16, float>(shape, *alpha, a, b, *beta, c, by);
    if (compute == COMPUTE_32F && type_a == R_32F && type_c == R_32F)
        return products<float, float, float>(shape, *alpha, a, b, *beta, c, by);
    if (compute == COMPUTE_32F_FAST_TF32 && type_a == R_32F && type_c == R_32F)
        return products<float, Tf32, float>(shape, *alpha, a, b, *beta, c, by);
    return NOT_SUPPORTED;
}
API cublasGemmEx(void *handle, int ta, int tb, int m, int n, int k, const float *alpha, const void *a, int type_a,
                 int lda, const void *b, int type_b, int ldb, const float *beta, void *c, int type_c, int ldc,
                 int compute, int algorithm) {
    return cublasGemmStridedBatchedEx(handle, ta, tb, m, n, k, alpha, a, type_a, lda, 0, b, type_b, ldb, 0, beta, c,
                                      type_c, ldc, 0, 1, compute, algorithm);
}

// cudarc links the half-precision products; this project does not use them.
API cublasHgemm(...) { return NOT_SUPPORTED; }
API cublasHgemmStridedBatched(...) { return NOT_SUPPORTED; }
