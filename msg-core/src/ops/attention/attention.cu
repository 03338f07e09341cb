// Attention in f32 without the matrix of scores in memory and without tensor cores: the twin of
// cpu.rs beside it.
//
// Floor: forward reads q, k, v once and writes the output (4 E bytes for each entry of AttnDim and row); 4 d operations
// for every query, key and head (half of them behind a causal mask). Without tensor cores operations rule: an H100
// does 60 TFLOP/s in f32, this scheme about a quarter (one load from shared memory for every 4 multiply-adds).
#include "attention.cuh"

// Warps of a block; rows that stay with a warp; rows of a streamed tile, one a lane.
#define WARPS 4
#define TILE 32
// Head sizes up to 32 * CHUNKS; a lane has the columns lane, lane + 32, ...
#define FORWARD_ROWS 4
#define BACKWARD_ROWS 2

// Rows from `first` on of one tensor of a head, as floats, zeros beyond the last; a row has `width` places.
__device__ void load_rows(float *to, unsigned int width, const float *from, size_t stride, unsigned int first,
                          unsigned int count, unsigned int length, unsigned int head_dim) {
    for (unsigned int at = threadIdx.x; at < count * head_dim; at += blockDim.x) {
        const unsigned int row = at / head_dim, column = at % head_dim;
        to[row * width + column] = first + row < length ? from[(first + row) * stride + column] : 0.0f;
    }
}

__device__ __forceinline__ float inner_product(const float *a, const float *b, unsigned int size) {
    float sum = 0.0f;
    for (unsigned int i = 0; i < size; i++) sum = fmaf(a[i], b[i], sum);
    return sum;
}

template <int CHUNKS> __device__ void attention_forward(const Attention<float> &p) {
    extern __shared__ float shared[];
    const Head<float> of(p, blockIdx.z, blockIdx.y);
    const unsigned int warp = threadIdx.x / 32, lane = threadIdx.x % 32, d = p.head_dim;
    float *queries = shared, *keys = queries + WARPS * FORWARD_ROWS * d, *values = keys + TILE * (d + 1);
    const unsigned int block = blockIdx.x * WARPS * FORWARD_ROWS, first = block + warp * FORWARD_ROWS;
    load_rows(queries, d, of.query, 3 * of.inner, block, WARPS * FORWARD_ROWS, p.length, d);
    float most[FORWARD_ROWS], total[FORWARD_ROWS], weighted[FORWARD_ROWS][CHUNKS];
    for (int r = 0; r < FORWARD_ROWS; r++) {
        most[r] = -INFINITY;
        total[r] = 0.0f;
        for (int c = 0; c < CHUNKS; c++) weighted[r][c] = 0.0f;
    }
    const unsigned int end = p.causal ? min(p.length, block + WARPS * FORWARD_ROWS) : p.length;
    for (unsigned int tile = 0; tile < end; tile += TILE) {
        __syncthreads();
        load_rows(keys, d + 1, of.key, 3 * of.inner, tile, TILE, p.length, d);
        load_rows(values, d, of.value, 3 * of.inner, tile, TILE, p.length, d);
        __syncthreads();
        const unsigned int key = tile + lane;
        const float padding = of.padding && key < p.length ? of.padding[key] : 0.0f;
        float shares[FORWARD_ROWS];
        for (int r = 0; r < FORWARD_ROWS; r++) {
            const unsigned int query = first + r;
            const float product = inner_product(queries + (warp * FORWARD_ROWS + r) * d, keys + lane * (d + 1), d);
            const float score = looks(p, query, key) ? fmaf(product, p.scale, padding) : -INFINITY;
            const float larger = fmaxf(most[r], warp_max(score));
            // A query beyond the last sees nothing; else its first tile has a key that it sees.
            const float base = larger == -INFINITY ? 0.0f : larger;
            const float fade = expf(most[r] - base), share = expf(score - base);
            most[r] = larger;
            total[r] = total[r] * fade + warp_sum(share);
            const float factor = factor_at(p.dropout, of.sequence, of.head, query, key);
            shares[r] = share * factor;
            for (int c = 0; c < CHUNKS; c++) weighted[r][c] *= fade;
        }
        for (int j = 0; j < TILE; j++)
            for (int r = 0; r < FORWARD_ROWS; r++) {
                const float share = __shfl_sync(ALL_LANES, shares[r], j);
                for (int c = 0; c < CHUNKS; c++)
                    if (lane + 32 * c < d) weighted[r][c] = fmaf(share, values[j * d + lane + 32 * c], weighted[r][c]);
            }
    }
    for (int r = 0; r < FORWARD_ROWS; r++) {
        const unsigned int query = first + r;
        if (query >= p.length) continue;
        for (int c = 0; c < CHUNKS; c++)
            if (lane + 32 * c < d) of.out[(size_t)query * of.inner + lane + 32 * c] = weighted[r][c] / total[r];
        if (lane == 0) of.logsumexp[query] = most[r] + logf(total[r]);
    }
}

// KEYS: the warps' rows are keys, and queries stream past: gradients of keys and values. Else the rows are queries, and
// keys stream past: the queries' gradients. Each gradient is summed in one place, in the order of the stream.
template <int CHUNKS, bool KEYS> __device__ void attention_back(const Attention<float> &p) {
    extern __shared__ float shared[];
    const Head<float> of(p, blockIdx.z, blockIdx.y);
    const unsigned int warp = threadIdx.x / 32, lane = threadIdx.x % 32, d = p.head_dim, rows = WARPS * BACKWARD_ROWS;
    float *own = shared, *own_values = own + rows * d, *stream = own_values + rows * d, *stream_values = stream + TILE * (d + 1);
    const unsigned int block = blockIdx.x * rows, first = block + warp * BACKWARD_ROWS;
    const size_t wide = 3 * of.inner;
    load_rows(own, d, KEYS ? of.key : of.query, wide, block, rows, p.length, d);
    load_rows(own_values, d, KEYS ? of.value : of.dattn_out, KEYS ? wide : of.inner, block, rows, p.length, d);
    float gradient[BACKWARD_ROWS][CHUNKS], of_value[BACKWARD_ROWS][CHUNKS];
    for (int r = 0; r < BACKWARD_ROWS; r++)
        for (int c = 0; c < CHUNKS; c++) gradient[r][c] = of_value[r][c] = 0.0f;
    const unsigned int begin = KEYS && p.causal ? block / TILE * TILE : 0;
    const unsigned int end = !KEYS && p.causal ? min(p.length, block + rows) : p.length;
    for (unsigned int tile = begin; tile < end; tile += TILE) {
        __syncthreads();
        load_rows(stream, d + 1, KEYS ? of.query : of.key, wide, tile, TILE, p.length, d);
        load_rows(stream_values, d + 1, KEYS ? of.dattn_out : of.value, KEYS ? of.inner : wide, tile, TILE, p.length, d);
        __syncthreads();
        float shares[BACKWARD_ROWS], slopes[BACKWARD_ROWS];
        for (int r = 0; r < BACKWARD_ROWS; r++) {
            const unsigned int query = KEYS ? tile + lane : first + r, key = KEYS ? first + r : tile + lane;
            const float *a = own + (warp * BACKWARD_ROWS + r) * d, *b = own_values + (warp * BACKWARD_ROWS + r) * d;
            const float product = inner_product(a, stream + lane * (d + 1), d);
            const float dshare = inner_product(b, stream_values + lane * (d + 1), d);
            shares[r] = slopes[r] = 0.0f;
            if (!looks(p, query, key)) continue;
            const float score = fmaf(product, p.scale, of.padding ? of.padding[key] : 0.0f);
            const float share = expf(score - of.logsumexp[query]);
            const float factor = factor_at(p.dropout, of.sequence, of.head, query, key);
            shares[r] = share * factor;
            slopes[r] = share * (dshare * factor - of.deltas[query]) * p.scale;
        }
        for (int j = 0; j < TILE; j++)
            for (int r = 0; r < BACKWARD_ROWS; r++) {
                const float slope = __shfl_sync(ALL_LANES, slopes[r], j);
                const float share = KEYS ? __shfl_sync(ALL_LANES, shares[r], j) : 0.0f;
                for (int c = 0; c < CHUNKS; c++) {
                    const unsigned int column = lane + 32 * c;
                    if (column >= d) continue;
                    gradient[r][c] = fmaf(slope, stream[j * (d + 1) + column], gradient[r][c]);
                    if (KEYS) of_value[r][c] = fmaf(share, stream_values[j * (d + 1) + column], of_value[r][c]);
                }
            }
    }
    for (int r = 0; r < BACKWARD_ROWS; r++) {
        const unsigned int row = first + r;
        if (row >= p.length) continue;
        for (int c = 0; c < CHUNKS; c++) {
            const unsigned int column = lane + 32 * c;
            if (column >= d) continue;
            (KEYS ? of.dkey : of.dquery)[row * wide + column] = gradient[r][c];
            if (KEYS) of.dvalue[row * wide + column] = of_value[r][c];
        }
    }
}

// deltas[query] = sum of attn_out * dattn_out over the head: one warp a query and head.
template <class E> __device__ void attention_deltas(const Attention<E> &p) {
    const size_t warp = (size_t)blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32;
    if (warp >= (size_t)p.batch * p.heads * p.length) return;
    const unsigned int query = warp % p.length, head = warp / p.length % p.heads, lane = threadIdx.x % 32;
    const Head<E> of(p, warp / p.length / p.heads, head);
    float sum = 0.0f;
    for (unsigned int column = lane; column < p.head_dim; column += 32) {
        const size_t at = (size_t)query * of.inner + column;
        sum = fmaf(to_float(of.attn_out[at]), to_float(of.dattn_out[at]), sum);
    }
    sum = warp_sum(sum);
    if (lane == 0) of.deltas[query] = sum;
}

extern "C" __global__ void attention_deltas_f32(const Attention<float> p) { attention_deltas(p); }
extern "C" __global__ void attention_deltas_bf16(const Attention<bf16> p) { attention_deltas(p); }

#define FOR_SIZE(size, chunks)                                                                                         \
    extern "C" __global__ void attention_forward_f32_##size(const Attention<float> p) { attention_forward<chunks>(p); } \
    extern "C" __global__ void attention_keys_f32_##size(const Attention<float> p) { attention_back<chunks, true>(p); } \
    extern "C" __global__ void attention_queries_f32_##size(const Attention<float> p) { attention_back<chunks, false>(p); }

FOR_SIZE(32, 1)
FOR_SIZE(64, 2)
FOR_SIZE(128, 4)
