// CUDA C on the CPU, for tests of correctness: one block at a time, one fiber a thread.
//
// Offers threadIdx and its like, __shared__, barriers, shuffles, votes, atomics and __half here, vectors,
// bf16, tensor cores and cp.async in the headers included at the end. Stops at divergent barriers and at warp
// operations with a wrong mask; EMU_ORDER=rev|rand shows kernels that rely on an order of threads.
#pragma once
#define CUDA_EMU 1
#include <algorithm>
#include <cassert>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <math.h>
#include <numeric>
#include <sys/mman.h>
#include <type_traits>
#include <utility>
#include <vector>
#ifndef __x86_64__
#include <ucontext.h>
#endif

#define __device__
#define __host__
#define __forceinline__ inline
#define __noinline__
#define __launch_bounds__(...)
#define __constant__ static
#define __align__(n) alignas(n)
#define __CUDA_ARCH__ 900
#define warpSize 32

struct uint3 {
    unsigned x, y, z;
};
struct dim3 {
    unsigned x, y, z;
    dim3(unsigned a = 1, unsigned b = 1, unsigned c = 1) : x(a), y(b), z(c) {}
};

namespace emu {

constexpr size_t STACK = 128 * 1024;
constexpr size_t GUARD = 4096;
constexpr unsigned MOST_THREADS = 1024;

enum State : unsigned char { READY, AT_BLOCK, AT_WARP, DONE };

constexpr size_t SHOWN = 16; // bytes of the largest value that a shuffle carries

// A cp.async that has not been waited for.
struct Copy {
    void *to;
    const void *from;
    int bytes;
    unsigned group;
};

// One thread. A warp operation puts its operands into `slot`. When all lanes of its mask are there, `shown`
// keeps the first bytes, for shuffles, and `meet` does what the lanes do together, on their slots.
struct Fiber {
    void *sp;
    char *stack;
    uint3 tid;
    unsigned lin, mask;
    unsigned group; // the lanes that took part in the last warp operation
    State st;
    void (*meet)(Fiber *warp);
    unsigned groups; // of cp.async, that it has committed
    alignas(16) unsigned char slot[48], shown[SHOWN];
    std::vector<Copy> copies;
};

// The block that runs now.
struct Block {
    uint3 bid;
    dim3 grid, block;
    unsigned n;
    Fiber *f, *cur;
    void *sched_sp;
    char *dyn;
    void (*entry)(void **);
    void **params;
    unsigned long epoch;
};
static Block B;

// ---- switching between the scheduler and the fibers

#ifdef __x86_64__
extern "C" void emu_switch(void **save, void *load) __attribute__((visibility("hidden")));
asm(R"(
.text
.hidden emu_switch
.type emu_switch,@function
emu_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp,(%rdi)
  movq %rsi,%rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
)");
static inline void to_sched() { emu_switch(&B.cur->sp, B.sched_sp); }
static inline void to_fiber(Fiber *f) {
    B.cur = f;
    emu_switch(&B.sched_sp, f->sp);
}
static void fiber_main() {
    B.entry(B.params);
    B.cur->st = DONE;
    to_sched();
    __builtin_trap();
}
static inline void prep(Fiber *f) {
    void **sp = (void **)(f->stack + STACK);
    *--sp = nullptr;            // alignment, and the end of the chain of frames
    *--sp = (void *)fiber_main; // where the first switch returns to
    for (int i = 0; i < 6; i++) *--sp = nullptr;
    f->sp = sp;
}
#else
static ucontext_t sched_ctx;
static inline void to_sched() { swapcontext((ucontext_t *)B.cur->sp, &sched_ctx); }
static inline void to_fiber(Fiber *f) {
    B.cur = f;
    swapcontext(&sched_ctx, (ucontext_t *)f->sp);
}
static void fiber_main() {
    B.entry(B.params);
    B.cur->st = DONE;
    to_sched();
}
static inline void prep(Fiber *f) {
    ucontext_t *c = (ucontext_t *)f->stack;
    getcontext(c);
    c->uc_stack.ss_sp = f->stack + sizeof(ucontext_t);
    c->uc_stack.ss_size = STACK - sizeof(ucontext_t);
    c->uc_link = nullptr;
    makecontext(c, fiber_main, 0);
    f->sp = c;
}
#endif

[[noreturn]] static void die(const char *what) {
    fprintf(stderr, "cuda_emu: %s (block %u,%u,%u)\n", what, B.bid.x, B.bid.y, B.bid.z);
    for (unsigned i = 0; i < B.n && i < 64; i++) fprintf(stderr, "%c", "RBWD"[B.f[i].st]);
    fprintf(stderr, "  (R ready, B at __syncthreads, W at a warp operation, D returned)\n");
    abort();
}

static inline void block_barrier() {
    B.cur->st = AT_BLOCK;
    to_sched();
}
static inline void warp_barrier(unsigned mask, void (*meet)(Fiber *) = nullptr) {
    if (!(mask >> (B.cur->lin & 31) & 1)) die("a lane outside its own mask calls a warp operation");
    B.cur->mask = mask;
    B.cur->meet = meet;
    B.cur->st = AT_WARP;
    to_sched();
}

static char *new_stack() {
    const int kind = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    char *p = (char *)mmap(nullptr, STACK + GUARD, PROT_READ | PROT_WRITE, kind, -1, 0);
    if (p == MAP_FAILED) die("out of memory for stacks");
    mprotect(p, GUARD, PROT_NONE);
    return p + GUARD;
}

// ---- the order of threads

enum Order { FORWARD, REVERSE, RANDOM };
static Order mode() {
    static const char *name = getenv("EMU_ORDER");
    return !name || name[0] == 'f' ? FORWARD : name[1] == 'e' ? REVERSE : RANDOM;
}
// The thread that comes i-th in this pass over n threads.
static unsigned order(unsigned i, unsigned n) {
    if (mode() == FORWARD) return i;
    if (mode() == REVERSE) return n - 1 - i;
    static unsigned factor; // prime to n: a fresh permutation for every pass
    if (i == 0) {
        do {
            factor = (unsigned)rand() | 1;
        } while (n > 1 && std::gcd(factor % n, n) != 1);
    }
    return (unsigned)((unsigned long long)i * (factor % n) % n);
}

// ---- one block

// Frees the lanes of a warp that wait for the same mask once all of them that still run are there. They all
// run before the next call, so that none misses what is shown now.
static bool release_warp(Fiber *warp, unsigned lanes) {
    unsigned running = 0, seen = 0;
    bool released = false;
    for (unsigned l = 0; l < lanes; l++) running |= (unsigned)(warp[l].st != DONE) << l;
    for (unsigned l = 0; l < lanes; l++) {
        if (warp[l].st != AT_WARP || seen >> l & 1) continue;
        const unsigned mask = warp[l].mask;
        unsigned group = 0;
        for (unsigned q = 0; q < lanes; q++)
            if (warp[q].st == AT_WARP && warp[q].mask == mask) group |= 1u << q;
        seen |= group;
        if ((mask & running) != group) continue;
        for (unsigned q = 0; q < lanes; q++) {
            if (!(group >> q & 1)) continue;
            if (warp[q].meet != warp[l].meet) die("lanes of a warp meet in different operations");
            memcpy(warp[q].shown, warp[q].slot, SHOWN);
            warp[q].group = group;
        }
        if (warp[l].meet && group != ~0u) die("an operation of the whole warp without some of its lanes");
        if (warp[l].meet) warp[l].meet(warp);
        for (unsigned q = 0; q < lanes; q++)
            if (group >> q & 1) warp[q].st = READY;
        released = true;
    }
    return released;
}

static void run_block() {
    static Fiber F[MOST_THREADS];
    static char *spare[MOST_THREADS];
    static unsigned spares = 0;
    const unsigned n = B.n;
    B.f = F;
    for (unsigned i = 0; i < n; i++) {
        F[i].lin = i;
        F[i].st = READY;
        F[i].stack = nullptr;
        F[i].groups = 0;
        F[i].copies.clear();
        F[i].tid = {i % B.block.x, i / B.block.x % B.block.y, i / B.block.x / B.block.y};
    }
    unsigned alive = n;
    unsigned held = 0; // warps, a bit each, that wait while the others run ahead
    while (alive) {
        unsigned waiting = 0, ran = 0;
        if (mode() == RANDOM && rand() % 24 == 0) held = (unsigned)rand() ^ (unsigned)rand() << 16;
        for (unsigned k = 0; k < n; k++) {
            Fiber *f = &F[order(k, n)];
            if (f->st != READY) continue;
            if (held >> (f->lin >> 5) & 1) {
                waiting++;
                continue;
            }
            if (!f->stack) {
                f->stack = spares ? spare[--spares] : new_stack();
                prep(f);
            }
            ran++;
            to_fiber(f);
            if (f->st == DONE) {
                alive--;
                spare[spares++] = f->stack;
            }
        }
        if (!alive) break;
        bool released = waiting > 0;
        if (waiting && !ran) held = 0;
        unsigned at_block = 0;
        for (unsigned i = 0; i < n; i++) at_block += F[i].st == AT_BLOCK;
        for (unsigned w = 0; w < n; w += 32) released |= release_warp(F + w, std::min(n - w, 32u));
        if (!released && at_block == alive) {
            for (unsigned i = 0; i < n; i++)
                if (F[i].st == AT_BLOCK) F[i].st = READY;
            released = true;
        }
        if (!released) die("deadlock: divergent __syncthreads or warp operation");
    }
}

// Of exactly this size, so that AddressSanitizer sees overruns.
static void *memory(size_t bytes) {
    void *p = nullptr;
    if (posix_memalign(&p, 128, bytes ? bytes : 1)) die("out of memory for shared memory");
    return p;
}

// Storage of one `__shared__` declaration (L is a lambda type of its own); NaN at the start of every block.
template <class T, class L> static inline T &shared(L) {
    static void *const storage = memory(sizeof(T)); // not a static array: AddressSanitizer guards no template's
    static unsigned long epoch;
    if (epoch != B.epoch) {
        epoch = B.epoch;
        memset(storage, 0xFF, sizeof(T));
    }
    return *reinterpret_cast<T *>(storage);
}

// The value that lane `src` of the warp shows (below 0: one's own).
template <class T> static inline T xchg(unsigned mask, T v, int src) {
    static_assert(sizeof(T) <= SHOWN);
    Fiber *f = B.cur;
    const unsigned s = (f->lin & ~31u) + (unsigned)src;
    memcpy(f->slot, &v, sizeof v);
    warp_barrier(mask);
    T r = v;
    if (src >= 0 && (f->group >> src & 1)) memcpy(&r, B.f[s].shown, sizeof r);
    return r;
}

template <class... A, size_t... I> static inline void call_(void (*f)(A...), void **p, std::index_sequence<I...>) {
    f(*(std::remove_cv_t<A> *)p[I]...);
}
template <class... A> static inline void call(void (*f)(A...), void **p) {
    call_(f, p, std::index_sequence_for<A...>{});
}

static void launch(void (*entry)(void **), void **params, const unsigned *g, const unsigned *b, unsigned shm) {
    B.grid = dim3(g[0], g[1], g[2]);
    B.block = dim3(b[0], b[1], b[2]);
    B.n = b[0] * b[1] * b[2];
    B.entry = entry;
    B.params = params;
    B.dyn = (char *)memory(shm);
    for (unsigned z = 0; z < g[2]; z++)
        for (unsigned y = 0; y < g[1]; y++)
            for (unsigned x = 0; x < g[0]; x++) {
                B.bid = {x, y, z};
                memset(B.dyn, 0xFF, shm);
                B.epoch++;
                run_block();
            }
    free(B.dyn);
}

} // namespace emu

// ---- what kernels see

#define threadIdx (emu::B.cur->tid)
#define blockIdx (emu::B.bid)
#define blockDim (emu::B.block)
#define gridDim (emu::B.grid)
static inline void *emu_dyn_smem() { return emu::B.dyn; }
static inline void __syncthreads() { emu::block_barrier(); }
static inline void __syncwarp(unsigned m = ~0u) { emu::warp_barrier(m); }
static inline void __threadfence() {}
static inline void __threadfence_block() {}

static inline int emu_lane() { return emu::B.cur->lin & 31; }
static inline int emu_segment(int w) { return emu_lane() & ~(w - 1); }
template <class T> static inline T __shfl_sync(unsigned m, T v, int s, int w = 32) {
    return emu::xchg(m, v, emu_segment(w) | (s & (w - 1)));
}
template <class T> static inline T __shfl_xor_sync(unsigned m, T v, int x, int w = 32) {
    const int s = emu_lane() ^ x;
    return emu::xchg(m, v, s >= emu_segment(w) + w ? -1 : s);
}
template <class T> static inline T __shfl_down_sync(unsigned m, T v, unsigned d, int w = 32) {
    const int l = emu_lane();
    return emu::xchg(m, v, (l & (w - 1)) + (int)d >= w ? -1 : l + (int)d);
}
template <class T> static inline T __shfl_up_sync(unsigned m, T v, unsigned d, int w = 32) {
    const int l = emu_lane();
    return emu::xchg(m, v, (l & (w - 1)) < (int)d ? -1 : l - (int)d);
}
static inline unsigned __ballot_sync(unsigned m, int p) {
    emu::Fiber *f = emu::B.cur;
    const unsigned w = f->lin & ~31u;
    f->slot[0] = p != 0;
    emu::warp_barrier(m);
    unsigned r = 0;
    for (unsigned l = 0; l < 32; l++)
        if ((f->group >> l & 1) && emu::B.f[w + l].shown[0]) r |= 1u << l;
    return r;
}
static inline int __any_sync(unsigned m, int p) { return __ballot_sync(m, p) != 0; }
static inline int __all_sync(unsigned m, int p) { return __ballot_sync(m, !p) == 0; }
static inline int __popc(unsigned v) { return __builtin_popcount(v); }

// one OS thread: plain read-modify-write
template <class T, class U> static inline T atomicAdd(T *a, U v) { T o = *a; *a = o + (T)v; return o; }
template <class T, class U> static inline T atomicMax(T *a, U v) { T o = *a; if ((T)v > o) *a = (T)v; return o; }
template <class T, class U> static inline T atomicMin(T *a, U v) { T o = *a; if ((T)v < o) *a = (T)v; return o; }
template <class T, class U> static inline T atomicExch(T *a, U v) { T o = *a; *a = (T)v; return o; }
template <class T, class U, class V> static inline T atomicCAS(T *a, U c, V v) {
    T o = *a;
    if (o == (T)c) *a = (T)v;
    return o;
}

template <class To, class Fr> static inline To emu_bits(Fr f) {
    To t;
    static_assert(sizeof t == sizeof f);
    memcpy(&t, &f, sizeof t);
    return t;
}
static inline unsigned __float_as_uint(float f) { return emu_bits<unsigned>(f); }
static inline int __float_as_int(float f) { return emu_bits<int>(f); }
static inline float __uint_as_float(unsigned u) { return emu_bits<float>(u); }
static inline float __int_as_float(int u) { return emu_bits<float>(u); }
static inline long long __double_as_longlong(double d) { return emu_bits<long long>(d); }
static inline double __longlong_as_double(long long d) { return emu_bits<double>(d); }
template <class T> static inline T __ldg(const T *p) { return *p; }
static inline float rsqrtf(float x) { return 1.0f / sqrtf(x); }
static inline double rsqrt(double x) { return 1.0 / sqrt(x); }
#define __expf(x) expf(x)   // glibc declares these names
#define __logf(x) logf(x)
#define __sinf(x) sinf(x)
#define __cosf(x) cosf(x)
#define __powf(x, y) powf(x, y)
// correctly rounded operations; the compiler contracts nothing (-ffp-contract=off)
static inline float __fadd_rn(float a, float b) { return a + b; }
static inline float __fsub_rn(float a, float b) { return a - b; }
static inline float __fmul_rn(float a, float b) { return a * b; }
static inline float __fdiv_rn(float a, float b) { return a / b; }
static inline float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
static inline float __fsqrt_rn(float a) { return sqrtf(a); }
static inline double __dadd_rn(double a, double b) { return a + b; }
static inline double __dsub_rn(double a, double b) { return a - b; }
static inline double __dmul_rn(double a, double b) { return a * b; }
static inline double __ddiv_rn(double a, double b) { return a / b; }
static inline double __fma_rn(double a, double b, double c) { return fma(a, b, c); }
static inline double __dsqrt_rn(double a) { return sqrt(a); }
static inline unsigned __umulhi(unsigned a, unsigned b) { return (unsigned)((unsigned long long)a * b >> 32); }
static inline float __fdividef(float a, float b) { return a / b; }
static inline float fdividef(float a, float b) { return a / b; }
#define EMU_MINMAX(T)                                              \
    static inline T max(T a, T b) { return a > b ? a : b; }        \
    static inline T min(T a, T b) { return a < b ? a : b; }
EMU_MINMAX(int)
EMU_MINMAX(unsigned)
EMU_MINMAX(long)
EMU_MINMAX(unsigned long)
EMU_MINMAX(long long)
EMU_MINMAX(unsigned long long)
static inline float max(float a, float b) { return fmaxf(a, b); }
static inline float min(float a, float b) { return fminf(a, b); }
static inline double max(double a, double b) { return fmax(a, b); }
static inline double min(double a, double b) { return fmin(a, b); }
static inline unsigned max(int a, unsigned b) { return max((unsigned)a, b); }
static inline unsigned min(int a, unsigned b) { return min((unsigned)a, b); }
static inline unsigned max(unsigned a, int b) { return max(a, (unsigned)b); }
static inline unsigned min(unsigned a, int b) { return min(a, (unsigned)b); }
static inline unsigned long max(unsigned long a, unsigned b) { return max(a, (unsigned long)b); }
static inline unsigned long min(unsigned long a, unsigned b) { return min(a, (unsigned long)b); }

// ---- __half (storage + float arithmetic, rounded after every operation, as the hardware does)
struct __half {
    _Float16 v;
    __half() = default;
    __half(float f) : v((_Float16)f) {}
    __half(double f) : v((_Float16)f) {}
    __half(int f) : v((_Float16)f) {}
    __half(unsigned f) : v((_Float16)f) {}
    __half(long f) : v((_Float16)f) {}
    __half(unsigned long f) : v((_Float16)f) {}
    __half(long long f) : v((_Float16)f) {}
    __half(bool f) : v((_Float16)(int)f) {}
    operator float() const { return (float)v; }
};
#define EMU_HOP(op) static inline __half operator op(__half a, __half b) { return __half((float)a op (float)b); } \
    static inline __half &operator op##=(__half &a, __half b) { return a = a op b; }
EMU_HOP(+) EMU_HOP(-) EMU_HOP(*) EMU_HOP(/)
#define EMU_HCMP(op) static inline bool operator op(__half a, __half b) { return (float)a op (float)b; }
EMU_HCMP(==) EMU_HCMP(!=) EMU_HCMP(<) EMU_HCMP(>) EMU_HCMP(<=) EMU_HCMP(>=)
static inline __half operator-(__half a) { return __half(-(float)a); }
static inline float __half2float(__half h) { return (float)h; }
static inline __half __float2half(float f) { return __half(f); }
static inline __half __ushort_as_half(unsigned short u) { return emu_bits<__half>(u); }
static inline unsigned short __half_as_ushort(__half h) { return emu_bits<unsigned short>(h); }
static inline bool __hisnan(__half h) { return std::isnan((float)h); }
static inline __half __habs(__half h) { return __half(fabsf(h)); }
static inline __half hsqrt(__half h) { return __half(sqrtf(h)); }
static inline __half hexp(__half h) { return __half(expf(h)); }
static inline __half hlog(__half h) { return __half(logf(h)); }
static inline __half hsin(__half h) { return __half(sinf(h)); }
static inline __half hcos(__half h) { return __half(cosf(h)); }
static inline __half __hmax(__half a, __half b) { return __half(fmaxf(a, b)); }
static inline __half __hmin(__half a, __half b) { return __half(fminf(a, b)); }
static inline __half __hmax_nan(__half a, __half b) { return __hisnan(a) ? a : __hisnan(b) ? b : __hmax(a, b); }
static inline __half __hmin_nan(__half a, __half b) { return __hisnan(a) ? a : __hisnan(b) ? b : __hmin(a, b); }

#include "cuda_emu_vectors.h"
#include "cuda_emu_tensor.h"
