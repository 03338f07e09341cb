// What kernels reach by inline PTX only: products on tensor cores, ldmatrix, cp.async. Included by cuda_emu.h.
//
// A kernel calls these under `#ifdef CUDA_EMU` and the instruction otherwise. Layouts of the fragments are
// those of the PTX ISA 9.0, sections "mma.m16n8k16" and "ldmatrix". All lanes of the warp take part; the work
// of a warp is done once, when the last lane has come.
#pragma once

static inline size_t __cvta_generic_to_shared(const void *p) { return (size_t)p; }

namespace emu {

template <class T> static inline T &slot_as(Fiber *f) {
    static_assert(sizeof(T) <= sizeof f->slot);
    return *reinterpret_cast<T *>(f->slot);
}

struct Product {
    unsigned a[4], b[2];
    float c[4];
};

// Lane 4 g + t holds rows g and g + 8 of A and C, column g of B; of A's columns and B's rows 2 t, 2 t + 1 and
// these + 8; of C's columns 2 t and 2 t + 1.
__attribute__((optimize("O3"))) static void multiply(Fiber *warp) {
    float a[16][16], b[16][8], c[16][8];
    for (int lane = 0; lane < 32; lane++) {
        const Product &p = slot_as<Product>(warp + lane);
        const int g = lane >> 2, t = lane & 3;
        for (int i = 0; i < 4; i++)
            for (int half = 0; half < 2; half++) {
                const int column = 2 * t + half + (i >> 1) * 8;
                a[g + (i & 1) * 8][column] = bf16_value((unsigned short)(p.a[i] >> 16 * half));
                c[g + (i >> 1) * 8][2 * t + (i & 1)] = p.c[i];
                if (i < 2) b[2 * t + half + i * 8][g] = bf16_value((unsigned short)(p.b[i] >> 16 * half));
            }
    }
    for (int row = 0; row < 16; row++)
        for (int k = 0; k < 16; k++)
            for (int column = 0; column < 8; column++) c[row][column] += a[row][k] * b[k][column];
    for (int lane = 0; lane < 32; lane++) {
        Product &p = slot_as<Product>(warp + lane);
        for (int i = 0; i < 4; i++) p.c[i] = c[(lane >> 2) + (i >> 1) * 8][2 * (lane & 3) + (i & 1)];
    }
}

// Lane 8 m + r names row r of matrix m, eight values of 16 bits. Lane 4 g + t gets values 2 t and 2 t + 1 of
// row g, of column g where transposed.
template <int MATRICES, bool TRANSPOSED> static void load_matrices(Fiber *warp) {
    unsigned loaded[32][MATRICES];
    for (int m = 0; m < MATRICES; m++) {
        unsigned short value[8][8];
        for (int row = 0; row < 8; row++) {
            const char *from = slot_as<const char *>(warp + 8 * m + row);
            if ((size_t)from % 16) die("ldmatrix: an address that is not a multiple of 16");
            memcpy(value[row], from, 16);
        }
        for (int lane = 0; lane < 32; lane++) {
            const int g = lane >> 2, t = 2 * (lane & 3);
            const unsigned low = TRANSPOSED ? value[t][g] : value[g][t];
            const unsigned high = TRANSPOSED ? value[t + 1][g] : value[g][t + 1];
            loaded[lane][m] = low | high << 16;
        }
    }
    for (int lane = 0; lane < 32; lane++) memcpy(warp[lane].slot, loaded[lane], sizeof loaded[lane]);
}

template <int MATRICES, bool TRANSPOSED> static inline void ldmatrix(unsigned *r, const void *row) {
    memcpy(B.cur->slot, &row, sizeof row);
    warp_barrier(~0u, load_matrices<MATRICES, TRANSPOSED>);
    memcpy(r, B.cur->slot, MATRICES * sizeof *r);
}

static inline void finish(const Copy &copy) {
    if (copy.bytes) memcpy(copy.to, copy.from, copy.bytes);
    memset((char *)copy.to + copy.bytes, 0, 16 - copy.bytes);
}

// Does the copies of the groups before `end`.
static inline void finish_groups(Fiber *f, unsigned end) {
    size_t kept = 0;
    for (const Copy &copy : f->copies) {
        if ((int)(end - copy.group) > 0) finish(copy);
        else f->copies[kept++] = copy;
    }
    f->copies.resize(kept);
}

} // namespace emu

// mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32: sums in index order, rounded after every operation (the
// hardware's order and rounding are its own).
static inline void emu_mma_m16n8k16_bf16(float d[4], const unsigned a[4], const unsigned b[2], const float c[4]) {
    emu::Product &p = emu::slot_as<emu::Product>(emu::B.cur);
    memcpy(p.a, a, sizeof p.a);
    memcpy(p.b, b, sizeof p.b);
    memcpy(p.c, c, sizeof p.c);
    emu::warp_barrier(~0u, emu::multiply);
    memcpy(d, p.c, sizeof p.c);
}

// ldmatrix.sync.aligned.m8n8.{x4,x2}[.trans].shared.b16
static inline void emu_ldmatrix_x4(unsigned r[4], const void *row) { emu::ldmatrix<4, false>(r, row); }
static inline void emu_ldmatrix_x4_trans(unsigned r[4], const void *row) { emu::ldmatrix<4, true>(r, row); }
static inline void emu_ldmatrix_x2(unsigned r[2], const void *row) { emu::ldmatrix<2, false>(r, row); }
static inline void emu_ldmatrix_x2_trans(unsigned r[2], const void *row) { emu::ldmatrix<2, true>(r, row); }

// cp.async.cg.shared.global 16 with a source size: the bytes after `bytes_valid` become 0. Until the thread
// waits for it, the target holds NaN.
static inline void emu_cp_async_16(void *shared, const void *global, int bytes_valid) {
    if (bytes_valid < 0 || bytes_valid > 16) emu::die("cp.async: a source size outside of 0 to 16");
    if ((size_t)shared % 16 || (bytes_valid && (size_t)global % 16)) emu::die("cp.async: not aligned to 16 bytes");
    memset(shared, 0xFF, 16);
    emu::B.cur->copies.push_back({shared, global, bytes_valid, emu::B.cur->groups});
}
static inline void emu_cp_async_commit() { emu::B.cur->groups++; }
// Waits until at most `groups_left` of the committed groups are under way.
static inline void emu_cp_async_wait(int groups_left) {
    emu::finish_groups(emu::B.cur, emu::B.cur->groups - (unsigned)groups_left);
}
// cp.async.wait_all: committed or not
static inline void emu_cp_async_wait_all() { emu::finish_groups(emu::B.cur, emu::B.cur->groups + 1); }
