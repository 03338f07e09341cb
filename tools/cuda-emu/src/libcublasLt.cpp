// libcublasLt on the CPU: products of bf16 with bias, or bias and GELU behind them, D = A^T B. Each element is one sum
// in index order, in float.
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <dlfcn.h>
#include <vector>

#define API extern "C" __attribute__((visibility("default"))) int

enum { SUCCESS = 0, INVALID_VALUE = 7, NOT_SUPPORTED = 15 };
enum { R_32F = 0, R_16BF = 14, COMPUTE_32F = 68 };
enum { TRANSA = 3, TRANSB = 4, EPILOGUE = 7, BIAS = 8, AUX = 11, AUX_LD = 12 };
enum { DEFAULT = 1, WITH_BIAS = 4, GELU_AUX_BIAS = 164 };

struct Product {
    int compute;
    int32_t turned[2];
    uint32_t epilogue;
    const uint16_t *bias;
    uint16_t *aux;
    int64_t aux_ld;
};
struct Layout {
    int type;
    uint64_t rows, columns;
    int64_t ld;
};
struct Heuristic {
    uint64_t algorithm[8];
    size_t workspace;
    int state;
    float waves;
    int reserved[4];
};

static float value(uint16_t bits) {
    const uint32_t wide = (uint32_t)bits << 16;
    float f;
    memcpy(&f, &wide, sizeof f);
    return f;
}
// To nearest, ties to even.
static uint16_t rounded(float f) {
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    return (u & 0x7FFFFFFF) > 0x7F800000 ? 0x7FFF : (uint16_t)((u + 0x7FFF + (u >> 16 & 1)) >> 16);
}

API cublasLtCreate(void **handle) {
    *handle = new char;
    return SUCCESS;
}
API cublasLtDestroy(void *handle) {
    delete (char *)handle;
    return SUCCESS;
}
API cublasLtMatmulDescCreate(Product **product, int compute, int scale) {
    if (compute != COMPUTE_32F || scale != R_32F) return NOT_SUPPORTED;
    *product = new Product{compute, {0, 0}, DEFAULT, nullptr, nullptr, 0};
    return SUCCESS;
}
API cublasLtMatmulDescDestroy(Product *product) {
    delete product;
    return SUCCESS;
}
template <class T> static int set(T &field, const void *from, size_t bytes) {
    if (bytes != sizeof field) return INVALID_VALUE;
    memcpy(&field, from, bytes);
    return SUCCESS;
}
API cublasLtMatmulDescSetAttribute(Product *product, int attribute, const void *from, size_t bytes) {
    switch (attribute) {
    case TRANSA: return set(product->turned[0], from, bytes);
    case TRANSB: return set(product->turned[1], from, bytes);
    case EPILOGUE: return set(product->epilogue, from, bytes);
    case BIAS: return set(product->bias, from, bytes);
    case AUX: return set(product->aux, from, bytes);
    case AUX_LD: return set(product->aux_ld, from, bytes);
    default: return NOT_SUPPORTED;
    }
}
API cublasLtMatrixLayoutCreate(Layout **layout, int type, uint64_t rows, uint64_t columns, int64_t ld) {
    *layout = new Layout{type, rows, columns, ld};
    return SUCCESS;
}
API cublasLtMatrixLayoutDestroy(Layout *layout) {
    delete layout;
    return SUCCESS;
}
API cublasLtMatmulPreferenceCreate(void **preference) {
    *preference = new char;
    return SUCCESS;
}
API cublasLtMatmulPreferenceSetAttribute(void *, int, const void *, size_t) { return SUCCESS; }
API cublasLtMatmulPreferenceDestroy(void *preference) {
    delete (char *)preference;
    return SUCCESS;
}

static std::vector<float> values(const uint16_t *from, const Layout *layout) {
    std::vector<float> all(layout->rows * layout->columns);
    for (uint64_t column = 0; column < layout->columns; column++)
        for (uint64_t row = 0; row < layout->rows; row++)
            all[column * layout->rows + row] = value(from[column * layout->ld + row]);
    return all;
}

// Whether a matrix lies within one allocation of the emulated driver.
static bool inside(const void *at, const Layout *layout) {
    typedef bool (*Inside)(const void *, size_t);
    static const Inside inside = (Inside)dlsym(RTLD_DEFAULT, "emu_inside");
    return !inside || inside(at, layout->ld * layout->columns * sizeof(uint16_t));
}

// What the library refuses for bf16: other types, rows that are not 16 bytes apart.
static int check(const Product *product, const Layout *a, const Layout *b, const Layout *d) {
    if (!product->turned[0] || product->turned[1]) return NOT_SUPPORTED;
    for (const Layout *layout : {a, b, d})
        if (layout->type != R_16BF || layout->ld % 8) return NOT_SUPPORTED;
    switch (product->epilogue) {
    case DEFAULT: return SUCCESS;
    case WITH_BIAS: return product->bias ? SUCCESS : INVALID_VALUE;
    case GELU_AUX_BIAS:
        return !product->bias || !product->aux ? INVALID_VALUE : product->aux_ld % 8 ? NOT_SUPPORTED : SUCCESS;
    default: return NOT_SUPPORTED;
    }
}

API cublasLtMatmulAlgoGetHeuristic(void *, Product *product, Layout *a, Layout *b, Layout *, Layout *d, void *,
                                   int wanted, Heuristic *found, int *count) {
    *count = 0;
    const int status = check(product, a, b, d);
    if (status || wanted < 1) return status;
    memset(found, 0, sizeof *found);
    *count = 1;
    return SUCCESS;
}

API cublasLtMatmul(void *, Product *product, const float *alpha, const void *a, Layout *of_a, const void *b, Layout *of_b,
                   const float *beta, const void *, Layout *, void *d, Layout *of_d, const void *, void *, size_t,
                   void *) {
    const int refused = check(product, of_a, of_b, of_d);
    if (refused || *beta != 0.0f) return refused ? refused : NOT_SUPPORTED;
    const bool live = inside(a, of_a) && inside(b, of_b) && inside(d, of_d) &&
                      (product->epilogue != GELU_AUX_BIAS || inside(product->aux, of_d));
    if (!live) return INVALID_VALUE;
    const uint64_t m = of_d->rows, n = of_d->columns, k = of_a->rows;
    const std::vector<float> left = values((const uint16_t *)a, of_a), right = values((const uint16_t *)b, of_b);
    for (uint64_t column = 0; column < n; column++)
        for (uint64_t row = 0; row < m; row++) {
            float z = 0.0f;
            for (uint64_t p = 0; p < k; p++) z += left[row * k + p] * right[column * k + p];
            z *= *alpha;
            if (product->epilogue != DEFAULT) z += value(product->bias[row]);
            if (product->epilogue == GELU_AUX_BIAS) {
                product->aux[column * product->aux_ld + row] = rounded(z);
                z = 0.5f * z * (1.0f + tanhf(0.7978845608f * z * (1.0f + 0.044715f * z * z)));
            }
            ((uint16_t *)d)[column * of_d->ld + row] = rounded(z);
        }
    return SUCCESS;
}
