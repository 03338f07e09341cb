// Runs kernels.cu and cuBLAS' products on the emulator, through the driver's functions as any program would,
// and compares them with plain sums: `check KERNELS.ptx`. `check WRONG.ptx KERNEL` launches one of wrong.cu with
// 64 threads and a zeroed buffer of 64 ints; whether the emulator objects is for the caller to see.
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

extern "C" {
int cuModuleLoad(void **, const char *);
int cuModuleGetFunction(void **, void *, const char *);
int cuLaunchKernel(void *, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, void *, void **,
                   void **);
int cuFuncSetAttribute(void *, int, int);
int cuMemAlloc_v2(unsigned long long *, size_t);
int cuMemFree_v2(unsigned long long);
int cublasCreate_v2(void **);
int cublasSetMathMode(void *, int);
int cublasSgemm_v2(void *, int, int, int, int, int, const float *, const void *, int, const void *, int, const float *,
                   void *, int);
int cublasDgemm_v2(void *, int, int, int, int, int, const double *, const void *, int, const void *, int,
                   const double *, void *, int);
int cublasGemmStridedBatchedEx(void *, int, int, int, int, int, const float *, const void *, int, int, long long,
                               const void *, int, int, long long, const float *, void *, int, int, long long, int,
                               int, int);
}

static void *module;
static int failures;

static void expect(bool right, const std::string &what) {
    if (right) return;
    printf("wrong: %s\n", what.c_str());
    failures++;
}

static void run(const char *kernel, unsigned threads, unsigned shared, std::vector<void *> arguments) {
    void *function = nullptr;
    expect(cuModuleGetFunction(&function, module, kernel) == 0, kernel);
    if (function)
        expect(!cuLaunchKernel(function, 1, 1, 1, threads, 1, 1, shared, nullptr, arguments.data(), nullptr), kernel);
}

// Device memory is host memory here.
template <class T> static T *device(size_t count) {
    unsigned long long at = 0;
    if (cuMemAlloc_v2(&at, count * sizeof(T))) abort();
    return (T *)at;
}

static float from_bf16(uint16_t bits) {
    const uint32_t u = (uint32_t)bits << 16;
    float f;
    memcpy(&f, &u, 4);
    return f;
}
// Rounds by comparing neighbours in double precision, not by the trick that the emulator uses.
static uint16_t nearest_bf16(float f) {
    uint32_t u;
    memcpy(&u, &f, 4);
    const uint16_t low = (uint16_t)(u >> 16), high = (uint16_t)(low + 1);
    const double down = fabs((double)f - from_bf16(low)), up = fabs((double)from_bf16(high) - f);
    return down < up || (down == up && !(low & 1)) ? low : high;
}

static uint32_t state = 1;
static uint32_t draw() { return state = state * 1664525u + 1013904223u; }
static float uniform() { return (float)(draw() >> 8) / (1 << 23) - 1; }

static void check_mma() {
    uint16_t *a = device<uint16_t>(256), *b = device<uint16_t>(128);
    float *c = device<float>(128), *d = device<float>(128);
    for (int i = 0; i < 256; i++) a[i] = nearest_bf16(uniform());
    for (int i = 0; i < 128; i++) b[i] = nearest_bf16(uniform()), c[i] = uniform();
    run("mma_once", 32, 0, {&a, &b, &c, &d});
    for (int row = 0; row < 16; row++)
        for (int column = 0; column < 8; column++) {
            double sum = c[row * 8 + column];
            for (int k = 0; k < 16; k++) sum += (double)from_bf16(a[row * 16 + k]) * from_bf16(b[column * 16 + k]);
            const std::string name = "mma " + std::to_string(row) + " " + std::to_string(column);
            expect(fabs(sum - d[row * 8 + column]) <= 1e-5, name);
        }
}

static void check_ldmatrix() {
    uint16_t *in = device<uint16_t>(256), *out = device<uint16_t>(4 * 32 * 8);
    for (int i = 0; i < 256; i++) in[i] = (uint16_t)i;
    run("matrices", 32, 0, {&in, &out});
    for (int variant = 0; variant < 4; variant++)
        for (int lane = 0; lane < 32; lane++)
            for (int m = 0; m < 4; m++)
                for (int half = 0; half < 2; half++) {
                    int row = lane / 4, column = lane % 4 * 2 + half;
                    if (variant % 2) std::swap(row, column);
                    const int wanted = variant < 2 || m < 2 ? m * 64 + row * 8 + column : 0;
                    expect(out[(variant * 32 + lane) * 8 + m * 2 + half] == wanted,
                           "ldmatrix " + std::to_string(variant) + " lane " + std::to_string(lane));
                }
}

static void check_copies() {
    const int n = 64;
    for (int valid : {0, 4, 16}) {
        uint32_t *in = device<uint32_t>(2 * n * 4), *out = device<uint32_t>(4 * n * 4);
        for (int i = 0; i < 2 * n * 4; i++) in[i] = i;
        run("copies", n, 0, {&in, &out, &valid});
        for (int i = 0; i < n; i++)
            for (int word = 0; word < 4; word++) {
                const uint32_t other = ((i + 1) % n) * 4 + word;
                const std::string at = "cp.async " + std::to_string(valid) + " thread " + std::to_string(i);
                expect(out[i * 4 + word] == 0xFFFFFFFF, at + ": there before the wait");
                expect(out[(n + i) * 4 + word] == other, at + ": first stage");
                expect(out[(2 * n + i) * 4 + word] == 0xFFFFFFFF, at + ": second stage too early");
                expect(out[(3 * n + i) * 4 + word] == (4 * word < valid ? n * 4 + other : 0), at + ": second stage");
            }
    }
}

static void check_templates() {
    float *in = device<float>(32), *out = device<float>(32);
    for (int i = 0; i < 32; i++) in[i] = (float)i;
    run("reverse_floats", 32, 0, {&in, &out});
    for (int i = 0; i < 32; i++) expect(out[i] == 31 - i, "reverse_floats");
    uint16_t *half_in = device<uint16_t>(32), *half_out = device<uint16_t>(32);
    for (int i = 0; i < 32; i++) half_in[i] = nearest_bf16((float)i);
    run("reverse_bf16", 32, 0, {&half_in, &half_out});
    for (int i = 0; i < 32; i++) expect(from_bf16(half_out[i]) == 31 - i, "reverse_bf16");
}

static void check_warps() {
    int *out = device<int>(64);
    for (int i = 0; i < 64; i++) out[i] = -1;
    run("chains", 64, 64 * sizeof(int), {&out});
    for (int i = 0; i < 64; i++) {
        const int lane = i % 32, next = lane < 7 ? lane + 1 : 7;
        const int wanted = lane < 4 ? -1 : 100496 + (lane < 8 ? 1000 * next + 40000 : 0);
        expect(out[i] == wanted, "chains, thread " + std::to_string(i));
    }
}

static void check_shared_memory() {
    int *out = device<int>(32);
    void *function = nullptr, *arguments[] = {&out};
    cuModuleGetFunction(&function, module, "chains");
    const int bytes = 100 << 10;
    const auto launch = [&] { return cuLaunchKernel(function, 1, 1, 1, 32, 1, 1, bytes, nullptr, arguments, nullptr); };
    expect(launch() != 0, "much shared memory unasked");
    expect(cuFuncSetAttribute(function, 8, bytes) == 0, "cuFuncSetAttribute");
    expect(launch() == 0, "much shared memory");
}

// One case: both results against sums in double precision over what the operands are once rounded.
static void check_product(bool bf16, bool bf16_result, bool tf32, int ta, int tb, int m, int n, int k, float beta) {
    const int lda = (ta ? k : m) + 3, ldb = (tb ? n : k) + 1, ldc = m + 2, count = 2;
    const long long by_a = (long long)lda * (ta ? m : k) + 5, by_b = (long long)ldb * (tb ? k : n) + 1;
    const long long by_c = ldc * n + 1;
    float *a = device<float>(count * by_a), *b = device<float>(count * by_b), *c = device<float>(count * by_c);
    uint16_t *a16 = device<uint16_t>(count * by_a), *b16 = device<uint16_t>(count * by_b);
    uint16_t *c16 = device<uint16_t>(count * by_c);
    for (int i = 0; i < count * by_a; i++) a[i] = uniform(), a16[i] = nearest_bf16(a[i]);
    for (int i = 0; i < count * by_b; i++) b[i] = uniform(), b16[i] = nearest_bf16(b[i]);
    // Not to be read where beta is 0.
    for (int i = 0; i < count * by_c; i++) c[i] = beta ? uniform() : NAN, c16[i] = beta ? nearest_bf16(c[i]) : 0x7FFF;
    const std::vector<float> before(c, c + count * by_c);
    const float alpha = 0.5f;
    const int type = bf16 ? 14 : 0, result = bf16_result ? 14 : 0;
    const std::string name = std::string(bf16 ? "bf16" : tf32 ? "tf32" : "f32") + (bf16_result ? " to bf16 " : " ") +
                             std::to_string(ta) + std::to_string(tb) + " " + std::to_string(m) + " x " +
                             std::to_string(n) + " x " + std::to_string(k);
    const int status = cublasGemmStridedBatchedEx(
        nullptr, ta, tb, m, n, k, &alpha, bf16 ? (void *)a16 : a, type, lda, by_a, bf16 ? (void *)b16 : b, type, ldb,
        by_b, &beta, bf16_result ? (void *)c16 : c, result, ldc, by_c, count, tf32 ? 77 : 68, -1);
    expect(status == 0, name + ": status");
    double largest = 0;
    for (int q = 0; q < count; q++)
        for (int j = 0; j < n; j++)
            for (int i = 0; i < m; i++) {
                double sum = 0, size = 0;
                for (int p = 0; p < k; p++) {
                    const size_t l = q * by_a + (ta ? (size_t)i * lda + p : (size_t)p * lda + i);
                    const size_t r = q * by_b + (tb ? (size_t)p * ldb + j : (size_t)j * ldb + p);
                    const double term = bf16 ? (double)from_bf16(a16[l]) * from_bf16(b16[r]) : (double)a[l] * b[r];
                    sum += term, size += fabs(term);
                }
                const size_t at = q * by_c + (size_t)j * ldc + i;
                const double old = beta ? (bf16_result ? from_bf16(nearest_bf16(before[at])) : before[at]) : 0;
                const double wanted = alpha * sum + beta * old;
                const double got = bf16_result ? from_bf16(c16[at]) : c[at];
                const double rounded = (bf16_result ? fabs(wanted) / 256 : 0) + (tf32 ? size / 1000 : 0);
                const double bound = size * 1e-6 + 1e-7 + rounded;
                expect(fabs(got - wanted) <= bound, name);
                largest = fmax(largest, fabs(got - wanted) / (size + 1e-30));
            }
    for (void *memory : {(void *)a, (void *)b, (void *)c, (void *)a16, (void *)b16, (void *)c16})
        cuMemFree_v2((unsigned long long)memory);
    // TF32 has to show: 11 bits of the mantissa, not 24.
    if (tf32 && k > 8) expect(largest > 1e-6, name + ": exact");
}

static void check_products() {
    const int sizes[][3] = {{1, 1, 1}, {5, 7, 3}, {33, 6, 17}, {64, 65, 40}, {31, 12, 0}};
    for (auto &s : sizes)
        for (int trans = 0; trans < 4; trans++)
            for (float beta : {0.0f, 0.75f})
                for (int kind = 0; kind < 4; kind++)
                    check_product(kind < 2, kind == 1, kind == 3, trans & 1, trans >> 1, s[0], s[1], s[2], beta);
    const float one = 1, zero = 0;
    float *left = device<float>(1), *right = device<float>(1), *f = device<float>(1);
    *left = 1 + 1.0f / 4096, *right = 1;
    void *handle = nullptr;
    cublasCreate_v2(&handle);
    cublasSgemm_v2(handle, 0, 0, 1, 1, 1, &one, left, 1, right, 1, &zero, f, 1);
    expect(*f == *left, "Sgemm is exact by default");
    cublasSetMathMode(handle, 3);
    cublasSgemm_v2(handle, 0, 0, 1, 1, 1, &one, left, 1, right, 1, &zero, f, 1);
    expect(*f == 1, "Sgemm rounds to TF32 where the handle says so");
    const double d1 = 1, d0 = 0;
    double *three = device<double>(1), *d = device<double>(1);
    *three = 3;
    cublasDgemm_v2(handle, 0, 0, 1, 1, 1, &d1, three, 1, three, 1, &d0, d, 1);
    expect(*d == 9, "Dgemm");
    // What cuBLAS does not have.
    const auto refused = [&](int type, int m, int lead) {
        return cublasGemmStridedBatchedEx(handle, 0, 0, m, 1, 1, &one, left, type, lead, 0, right, 0, 1, 0, &zero, f, 0,
                                          m, 0, 1, 68, -1);
    };
    expect(refused(14, 1, 1) == 15, "operands of two types");
    expect(refused(0, 2, 1) == 7, "a leading dimension that is too small");
    expect(refused(0, 2, 2) == 7, "an operand that is not in memory");
}

int main(int count, char **arguments) {
    if (count == 3) {
        int *out = device<int>(64);
        memset(out, 0, 64 * sizeof *out);
        if (cuModuleLoad(&module, arguments[1])) return 2;
        run(arguments[2], 64, 64 * sizeof *out, {&out});
        for (int i = 0; i < 64; i++) expect(out[i] != -1, "a value that was never written");
        return failures != 0;
    }
    if (count != 2 || cuModuleLoad(&module, arguments[1])) return 2;
    check_mma();
    check_ldmatrix();
    check_copies();
    check_templates();
    check_warps();
    check_shared_memory();
    check_products();
    printf(failures ? "%d checks failed\n" : "all right\n", failures);
    return failures != 0;
}
