// Attention in bf16 on tensor cores, without the matrix of scores in memory: the twin of cpu/bf16_path.rs,
// after FlashAttention-2 (Dao 2023). Gradients of keys and values, and those of queries, are two passes, so that each is
// summed in one place, in a fixed order, without atomics.
//
// Floor, for every query, key and head of d (half of them behind a causal mask): 4 d operations forward, 14 d backward
// (10 d with atomics); memory is read and written once: 8 bytes an entry of AttnDim forward. H100, 600 TFLOP/s of bf16
// by mma.sync: batch 16, length 1024, 12 heads of 64: 26 GFLOP forward, 43 us; 90 GFLOP backward, 150 us. Expected: 40 %
// of that, because exponentials and products take turns within a warp.
#include "attention.cuh"
#include "tensor.cuh"

#define LOG2_E 1.4426950409f

// Rows that stay with a block, 16 a warp.
#define WARPS 4
#define FIXED (16 * WARPS)

// SIZE: the head's size, padded by zeros; TILE: rows of a streamed tile. 8 more columns keep ldmatrix free of bank
// conflicts.
template <int SIZE> struct Row {
    static constexpr int stride = SIZE + 8;
};

// Rows from `first` on of one tensor of a head; zeros beyond the last row and column.
template <int SIZE, int ROWS>
__device__ void load_tile(bf16 *to, const bf16 *from, size_t stride, unsigned int first, unsigned int length,
                          unsigned int head_dim) {
    constexpr int pieces = SIZE / 8;
    for (unsigned int at = threadIdx.x; at < ROWS * pieces; at += blockDim.x) {
        const unsigned int row = at / pieces, column = at % pieces * 8;
        bf16 *target = to + row * Row<SIZE>::stride + column;
        const bool there = first + row < length && column < head_dim;
        const bf16 *source = from + (there ? (first + row) * stride + column : 0);
        if (head_dim % 8 == 0) {
            copy_async(target, source, there);
        } else {
            for (unsigned int i = 0; i < 8; i++)
                target[i] = there && column + i < head_dim ? source[i] : bf16{0};
        }
    }
}

// A warp's 16 rows of a tile as left operands.
template <int SIZE>
__device__ __forceinline__ void load_operands(unsigned int (&a)[SIZE / 16][4], const bf16 *tile, unsigned int lane) {
#pragma unroll
    for (int k = 0; k < SIZE / 16; k++)
        load_matrices(a[k], tile + (lane & 15) * Row<SIZE>::stride + k * 16 + (lane >> 4) * 8);
}

// scores = A tile^T
template <int SIZE, int TILE>
__device__ __forceinline__ void multiply_rows(float (&scores)[TILE / 8][4], const unsigned int (&a)[SIZE / 16][4],
                                              const bf16 *tile, unsigned int lane) {
#pragma unroll
    for (int n = 0; n < TILE / 8; n++)
        for (int i = 0; i < 4; i++) scores[n][i] = 0.0f;
#pragma unroll
    for (int k = 0; k < SIZE / 16; k++)
#pragma unroll
        for (int n = 0; n < TILE / 16; n++) {
            unsigned int b[4];
            const unsigned int row = n * 16 + (lane & 7) + (lane >> 4) * 8;
            load_matrices(b, tile + row * Row<SIZE>::stride + k * 16 + (lane >> 3 & 1) * 8);
            multiply_add(scores[2 * n], a[k], b[0], b[1]);
            multiply_add(scores[2 * n + 1], a[k], b[2], b[3]);
        }
}

// out += shares tile
template <int SIZE, int TILE>
__device__ __forceinline__ void multiply_columns(float (&out)[SIZE / 8][4], const float (&shares)[TILE / 8][4],
                                                 const bf16 *tile, unsigned int lane) {
#pragma unroll
    for (int k = 0; k < TILE / 16; k++) {
        const unsigned int a[4] = {pair(shares[2 * k][0], shares[2 * k][1]), pair(shares[2 * k][2], shares[2 * k][3]),
                                   pair(shares[2 * k + 1][0], shares[2 * k + 1][1]),
                                   pair(shares[2 * k + 1][2], shares[2 * k + 1][3])};
#pragma unroll
        for (int n = 0; n < SIZE / 16; n++) {
            unsigned int b[4];
            load_matrices_turned(b, tile + (k * 16 + (lane & 15)) * Row<SIZE>::stride + n * 16 + (lane >> 4) * 8);
            multiply_add(out[2 * n], a, b[0], b[1]);
            multiply_add(out[2 * n + 1], a, b[2], b[3]);
        }
    }
}

// Writes a warp's rows, each times its factor.
template <int SIZE>
__device__ __forceinline__ void store_rows(bf16 *to, size_t stride, const float (&out)[SIZE / 8][4], unsigned int first,
                                           unsigned int length, unsigned int head_dim, const float (&factor)[2],
                                           unsigned int lane) {
#pragma unroll
    for (int n = 0; n < SIZE / 8; n++)
#pragma unroll
        for (int half = 0; half < 2; half++) {
            const unsigned int row = first + lane / 4 + 8 * half, column = n * 8 + 2 * (lane % 4);
            if (row >= length || column >= head_dim) continue;
            bf16 *target = to + row * stride + column;
            const float a = out[n][2 * half] * factor[half], b = out[n][2 * half + 1] * factor[half];
            if (head_dim % 2 == 0) {
                *reinterpret_cast<unsigned int *>(target) = pair(a, b);
            } else {
                target[0] = to_bf16(a);
                if (column + 1 < head_dim) target[1] = to_bf16(b);
            }
        }
}

// Sum and maximum over the four lanes that share a row.
__device__ __forceinline__ float row_sum(float x) {
    x += __shfl_xor_sync(ALL_LANES, x, 1);
    return x + __shfl_xor_sync(ALL_LANES, x, 2);
}

__device__ __forceinline__ float row_max(float x) {
    x = fmaxf(x, __shfl_xor_sync(ALL_LANES, x, 1));
    return fmaxf(x, __shfl_xor_sync(ALL_LANES, x, 2));
}

// The statistics of this file are logarithms to base 2, of scores times scale times log2(e).
template <int SIZE, int TILE> __device__ __forceinline__ void attention_forward(const Attention<bf16> &p) {
    extern __shared__ __align__(16) bf16 tiles[];
    constexpr int whole = TILE * Row<SIZE>::stride, stage = 2 * whole;
    const Head<bf16> of(p, blockIdx.z, blockIdx.y);
    const unsigned int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const unsigned int block = blockIdx.x * FIXED, first = block + warp * 16;
    const size_t wide = 3 * (size_t)of.inner;
    const float scale = p.scale * LOG2_E;

    unsigned int queries[SIZE / 16][4];
    load_tile<SIZE, FIXED>(tiles, of.query, wide, block, p.length, p.head_dim);
    end_group();
    wait_for_groups<0>();
    __syncthreads();
    load_operands<SIZE>(queries, tiles + warp * 16 * Row<SIZE>::stride, lane);
    __syncthreads();

    float weighted[SIZE / 8][4], most[2] = {-INFINITY, -INFINITY}, total[2] = {0.0f, 0.0f};
#pragma unroll
    for (int n = 0; n < SIZE / 8; n++)
        for (int i = 0; i < 4; i++) weighted[n][i] = 0.0f;
    const unsigned int end = p.causal ? min(p.length, block + FIXED) : p.length;
    load_tile<SIZE, TILE>(tiles, of.key, wide, 0, p.length, p.head_dim);
    load_tile<SIZE, TILE>(tiles + whole, of.value, wide, 0, p.length, p.head_dim);
    end_group();
    unsigned int turn = 0;
    for (unsigned int tile = 0; tile < end; tile += TILE, turn ^= 1) {
        if (tile + TILE < end) {
            bf16 *next = tiles + (turn ^ 1) * stage;
            load_tile<SIZE, TILE>(next, of.key, wide, tile + TILE, p.length, p.head_dim);
            load_tile<SIZE, TILE>(next + whole, of.value, wide, tile + TILE, p.length, p.head_dim);
            end_group();
            wait_for_groups<1>();
        } else {
            wait_for_groups<0>();
        }
        __syncthreads();
        const bf16 *keys = tiles + turn * stage, *values = keys + whole;
        float scores[TILE / 8][4];
        multiply_rows<SIZE, TILE>(scores, queries, keys, lane);
        // Whether all queries of the warp see all keys of the tile as they are.
        const bool plain = !of.padding && tile + TILE <= p.length && first + 16 <= p.length &&
                           !(p.causal && tile + TILE - 1 > first);
        float larger[2] = {most[0], most[1]};
#pragma unroll
        for (int n = 0; n < TILE / 8; n++)
#pragma unroll
            for (int i = 0; i < 4; i++) {
                const unsigned int query = first + lane / 4 + 8 * (i / 2), key = tile + n * 8 + 2 * (lane % 4) + i % 2;
                float score = scores[n][i] * scale;
                if (!plain) {
                    const bool sees = looks(p, query, key);
                    score = sees ? score + (of.padding ? of.padding[key] * LOG2_E : 0.0f) : -INFINITY;
                }
                scores[n][i] = score;
                larger[i / 2] = fmaxf(larger[i / 2], score);
            }
        float base[2];
#pragma unroll
        for (int half = 0; half < 2; half++) {
            larger[half] = row_max(larger[half]);
            // A query beyond the last sees nothing; else its first tile has a key that it sees.
            base[half] = larger[half] == -INFINITY ? 0.0f : larger[half];
            const float fade = exp2f(most[half] - base[half]);
            most[half] = larger[half];
            total[half] *= fade;
#pragma unroll
            for (int n = 0; n < SIZE / 8; n++) {
                weighted[n][2 * half] *= fade;
                weighted[n][2 * half + 1] *= fade;
            }
        }
#pragma unroll
        for (int n = 0; n < TILE / 8; n++)
#pragma unroll
            for (int i = 0; i < 4; i++) {
                const float share = exp2f(scores[n][i] - base[i / 2]);
                // Each lane adds its own; the four of a row are added at the end.
                total[i / 2] += share;
                scores[n][i] = share;
                if (p.dropout.rate != 0.0f) {
                    const unsigned int query = first + lane / 4 + 8 * (i / 2);
                    const unsigned int key = tile + n * 8 + 2 * (lane % 4) + i % 2;
                    scores[n][i] *= factor_at(p.dropout, of.sequence, of.head, query, key);
                }
            }
        multiply_columns<SIZE, TILE>(weighted, scores, values, lane);
        __syncthreads();
    }
    float inverse[2];
#pragma unroll
    for (int half = 0; half < 2; half++) {
        const float sum = row_sum(total[half]);
        inverse[half] = 1.0f / sum;
        const unsigned int query = first + lane / 4 + 8 * half;
        if (lane % 4 == 0 && query < p.length) of.logsumexp[query] = most[half] + log2f(sum);
    }
    store_rows<SIZE>(of.out, of.inner, weighted, first, p.length, p.head_dim, inverse, lane);
}

// KEYS: the fixed rows are keys, and queries stream past: gradients of keys and values. Else the fixed rows are queries, and
// keys stream past: the queries' gradients.
template <int SIZE, int TILE, bool KEYS> __device__ __forceinline__ void attention_back(const Attention<bf16> &p) {
    extern __shared__ __align__(16) bf16 tiles[];
    constexpr int whole = TILE * Row<SIZE>::stride, stage = 2 * whole;
    const Head<bf16> of(p, blockIdx.z, blockIdx.y);
    const unsigned int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const unsigned int block = blockIdx.x * FIXED, first = block + warp * 16;
    const size_t wide = 3 * (size_t)of.inner, narrow = of.inner;
    const float scale = p.scale * LOG2_E;

    unsigned int own[SIZE / 16][4], own_values[SIZE / 16][4];
    load_tile<SIZE, FIXED>(tiles, KEYS ? of.key : of.query, wide, block, p.length, p.head_dim);
    end_group();
    wait_for_groups<0>();
    __syncthreads();
    load_operands<SIZE>(own, tiles + warp * 16 * Row<SIZE>::stride, lane);
    __syncthreads();
    load_tile<SIZE, FIXED>(tiles, KEYS ? of.value : of.dattn_out, KEYS ? wide : narrow, block, p.length, p.head_dim);
    end_group();
    wait_for_groups<0>();
    __syncthreads();
    load_operands<SIZE>(own_values, tiles + warp * 16 * Row<SIZE>::stride, lane);
    __syncthreads();

    float gradient[SIZE / 8][4], of_value[KEYS ? SIZE / 8 : 1][4];
#pragma unroll
    for (int n = 0; n < SIZE / 8; n++)
        for (int i = 0; i < 4; i++) {
            gradient[n][i] = 0.0f;
            if (KEYS) of_value[n][i] = 0.0f;
        }
    // Of the lane's two queries: its rows, or two neighbours of a tile.
    float logsumexp[2], deltas[2];
    if (!KEYS) {
#pragma unroll
        for (int j = 0; j < 2; j++) {
            const unsigned int query = first + lane / 4 + 8 * j;
            logsumexp[j] = query < p.length ? of.logsumexp[query] : 0.0f;
            deltas[j] = query < p.length ? of.deltas[query] : 0.0f;
        }
    }
    const bf16 *stream = KEYS ? of.query : of.key, *stream_values = KEYS ? of.dattn_out : of.value;
    const size_t mix_stride = KEYS ? narrow : wide;
    const unsigned int begin = KEYS && p.causal ? block / TILE * TILE : 0;
    const unsigned int end = !KEYS && p.causal ? min(p.length, block + FIXED) : p.length;
    load_tile<SIZE, TILE>(tiles, stream, wide, begin, p.length, p.head_dim);
    load_tile<SIZE, TILE>(tiles + whole, stream_values, mix_stride, begin, p.length, p.head_dim);
    end_group();
    unsigned int turn = 0;
    for (unsigned int tile = begin; tile < end; tile += TILE, turn ^= 1) {
        if (tile + TILE < end) {
            bf16 *next = tiles + (turn ^ 1) * stage;
            load_tile<SIZE, TILE>(next, stream, wide, tile + TILE, p.length, p.head_dim);
            load_tile<SIZE, TILE>(next + whole, stream_values, mix_stride, tile + TILE, p.length, p.head_dim);
            end_group();
            wait_for_groups<1>();
        } else {
            wait_for_groups<0>();
        }
        __syncthreads();
        const bf16 *rows = tiles + turn * stage, *mixes = rows + whole;
        float shares[TILE / 8][4], slopes[TILE / 8][4];
        multiply_rows<SIZE, TILE>(shares, own, rows, lane);
        multiply_rows<SIZE, TILE>(slopes, own_values, mixes, lane);
        // Whether each pair of rows sees each other as they are.
        const bool plain = !of.padding && tile + TILE <= p.length && first + 16 <= p.length &&
                           !(p.causal && (KEYS ? first + 15 > tile : tile + TILE - 1 > first));
#pragma unroll
        for (int n = 0; n < TILE / 8; n++) {
            const unsigned int columns = tile + n * 8 + 2 * (lane % 4);
            if (KEYS) {
#pragma unroll
                for (int j = 0; j < 2; j++) {
                    const bool there = columns + j < p.length;
                    logsumexp[j] = there ? of.logsumexp[columns + j] : 0.0f;
                    deltas[j] = there ? of.deltas[columns + j] : 0.0f;
                }
            }
#pragma unroll
            for (int i = 0; i < 4; i++) {
                const unsigned int row = first + lane / 4 + 8 * (i / 2), column = columns + i % 2;
                const unsigned int query = KEYS ? column : row, key = KEYS ? row : column;
                const int j = KEYS ? i % 2 : i / 2;
                float padding = 0.0f;
                if (!plain) {
                    if (!looks(p, query, key)) {
                        shares[n][i] = slopes[n][i] = 0.0f;
                        continue;
                    }
                    if (of.padding) padding = of.padding[key] * LOG2_E;
                }
                const float share = exp2f(fmaf(shares[n][i], scale, padding) - logsumexp[j]);
                float factor = 1.0f;
                if (p.dropout.rate != 0.0f) factor = factor_at(p.dropout, of.sequence, of.head, query, key);
                shares[n][i] = share * factor;
                slopes[n][i] = share * (slopes[n][i] * factor - deltas[j]) * p.scale;
            }
        }
        multiply_columns<SIZE, TILE>(gradient, slopes, rows, lane);
        if constexpr (KEYS) multiply_columns<SIZE, TILE>(of_value, shares, mixes, lane);
        __syncthreads();
    }
    const float one[2] = {1.0f, 1.0f};
    store_rows<SIZE>(KEYS ? of.dkey : of.dquery, wide, gradient, first, p.length, p.head_dim, one, lane);
    if constexpr (KEYS) store_rows<SIZE>(of.dvalue, wide, of_value, first, p.length, p.head_dim, one, lane);
}

#define FOR_SIZE(size, forward_tile, back_tile)                                                                \
    extern "C" __global__ void __launch_bounds__(32 * WARPS)                                                   \
        attention_forward_bf16_##size(const Attention<bf16> p) { attention_forward<size, forward_tile>(p); }   \
    extern "C" __global__ void __launch_bounds__(32 * WARPS)                                                   \
        attention_keys_bf16_##size(const Attention<bf16> p) { attention_back<size, back_tile, true>(p); }      \
    extern "C" __global__ void __launch_bounds__(32 * WARPS)                                                   \
        attention_queries_bf16_##size(const Attention<bf16> p) { attention_back<size, back_tile, false>(p); }

// Tiles as large as registers and 48 KB of shared memory allow.
FOR_SIZE(32, 64, 64)
FOR_SIZE(64, 64, 32)
FOR_SIZE(128, 32, 16)
