// Passes over matrices of rows, entry by entry, whose backward forms also sum each column: the twins of
// rows.rs and gelu/cpu.rs.
//
// Floor, in bytes an entry (E: 4 or 2): activate 2 E; activate_back 4 E; bias_and_mask 2 E; mask_back 1 or 2 E;
// branch_back 4 + E; add_scaled 12. H100 at 3.0 TB/s: 3072 x 16,384 entries of bf16: activate 67 us,
// activate_back 134 us.
#include "dropout.cuh"
#include "gelu.cuh"

// A block has 32 threads side by side, each with its columns, and 8 of them below each other. It sums the columns
// over its share of the rows; kernel `column_totals` adds the shares.
#define ACROSS 32
#define DOWN 8

template <class E> struct Columns {
    const E *x;           // activate, activate_back: the map's outputs without bias; else what is changed
    E *y;                 // changed in place, or written
    E *active;            // activate_back: written
    const float *stream;  // branch_back: the gradient of the sum
    const float *bias;    // null: 0
    const float *mask[3]; // of the columns' equal parts; null: 1
    float *sums;          // [gridDim.y][columns], or null
    Dropout dropout;
    float gate;
    unsigned int rows, columns, length;
    unsigned int part;    // columns of a part
    unsigned int is_tanh; // form of GELU
};

// Adds what the block's threads have for each column, and writes it.
template <int N> __device__ void write_sums(float *sums, unsigned int columns, unsigned int column,
                                            const Vec<N> &mine) {
    __shared__ float all_sums[DOWN][ACROSS * 4];
    for (int i = 0; i < N; i++) all_sums[threadIdx.y][threadIdx.x * N + i] = mine.at[i];
    __syncthreads();
    if (threadIdx.y || column >= columns) return;
    for (int i = 0; i < N; i++) {
        float sum = 0.0f;
        for (int down = 0; down < DOWN; down++) sum += all_sums[down][threadIdx.x * N + i];
        sums[(size_t)blockIdx.y * columns + column + i] = sum;
    }
}

template <class E> __device__ __forceinline__ ValueAndSlope gelu(const Columns<E> &p, float x) {
    return p.is_tanh ? gelu_tanh(x) : gelu_erf(x);
}

// The mask of a column's part; no index, so that the struct stays in constant memory.
template <class E> __device__ __forceinline__ const float *mask_of(const Columns<E> &p, unsigned int column) {
    const unsigned int part = column / p.part;
    return part == 0 ? p.mask[0] : part == 1 ? p.mask[1] : p.mask[2];
}

// The mask of N columns of one part.
template <int N, class E> __device__ __forceinline__ Vec<N> mask_at(const Columns<E> &p, unsigned int column) {
    const float *mask = mask_of(p, column);
    return mask ? load<N>(mask + column % p.part) : all<N>(1.0f);
}

template <int N, class E> __device__ __forceinline__ Vec<N> bias_at(const Columns<E> &p, unsigned int column) {
    return p.bias ? load<N>(p.bias + column) : all<N>(0.0f);
}

// c (x + b); 0 where the mask is, whatever x holds.
template <int N> __device__ __forceinline__ Vec<N> shifted(const Vec<N> &x, const Vec<N> &bias,
                                                                  const Vec<N> &c) {
    Vec<N> y;
    for (int i = 0; i < N; i++) y.at[i] = c.at[i] == 0.0f ? 0.0f : c.at[i] * (x.at[i] + bias.at[i]);
    return y;
}

#define COLUMN                                                            \
    const unsigned int column = (blockIdx.x * ACROSS + threadIdx.x) * N;  \
    const bool inside = column < p.columns;                               \
    Vec<N> sums = all<N>(0.0f);

#define FOR_ROWS                                                                               \
    const unsigned int first = blockIdx.y * DOWN + threadIdx.y, step = gridDim.y * DOWN;       \
    if (inside)                                                                                \
        for (unsigned int row = first; row < p.rows; row += step)

// y = gelu(c (x + b))
template <class E, int N> __device__ void activate(const Columns<E> &p) {
    const unsigned int column = (blockIdx.x * ACROSS + threadIdx.x) * N;
    if (column >= p.columns) return;
    const Vec<N> bias = bias_at<N>(p, column), c = mask_at<N>(p, column);
    for (unsigned int row = blockIdx.y * DOWN + threadIdx.y; row < p.rows; row += gridDim.y * DOWN) {
        const size_t at = (size_t)row * p.columns + column;
        Vec<N> z = shifted(load<N>(p.x + at), bias, c);
        for (int i = 0; i < N; i++) z.at[i] = gelu(p, z.at[i]).value;
        store(p.y + at, z);
    }
}

// active = gelu(z) again, and y = c gelu'(z) y, with z = c (x + b); sums of y.
template <class E, int N> __device__ void activate_back(const Columns<E> &p) {
    COLUMN
    const Vec<N> bias = inside ? bias_at<N>(p, column) : sums, c = inside ? mask_at<N>(p, column) : sums;
    FOR_ROWS {
        const size_t at = (size_t)row * p.columns + column;
        Vec<N> z = shifted(load<N>(p.x + at), bias, c), dy = load<N>(p.y + at);
        for (int i = 0; i < N; i++) {
            const ValueAndSlope g = gelu(p, z.at[i]);
            z.at[i] = g.value;
            dy.at[i] = c.at[i] == 0.0f ? 0.0f : c.at[i] * g.slope * dy.at[i];
            sums.at[i] += rounded<E>(dy.at[i]);
        }
        store(p.active + at, z);
        store(p.y + at, dy);
    }
    write_sums(p.sums, p.columns, column, sums);
}

// y = c (y + b)
template <class E, int N> __device__ void bias_and_mask(const Columns<E> &p) {
    const unsigned int column = (blockIdx.x * ACROSS + threadIdx.x) * N;
    if (column >= p.columns) return;
    const Vec<N> bias = bias_at<N>(p, column), c = mask_at<N>(p, column);
    for (unsigned int row = blockIdx.y * DOWN + threadIdx.y; row < p.rows; row += gridDim.y * DOWN) {
        const size_t at = (size_t)row * p.columns + column;
        store(p.y + at, shifted(load<N>(p.y + at), bias, c));
    }
}

// y = c y; sums of y.
template <class E, int N> __device__ void mask_back(const Columns<E> &p) {
    COLUMN
    const Vec<N> c = inside ? mask_at<N>(p, column) : sums;
    const bool masked = inside && mask_of(p, column);
    FOR_ROWS {
        const size_t at = (size_t)row * p.columns + column;
        const Vec<N> y = shifted(load<N>(p.y + at), all<N>(0.0f), c);
        if (masked) store(p.y + at, y);
        for (int i = 0; i < N; i++) sums.at[i] += rounded<E>(y.at[i]);
    }
    write_sums(p.sums, p.columns, column, sums);
}

// y = gate * drop(stream); sums of y.
template <class E, int N> __device__ void branch_back(const Columns<E> &p) {
    COLUMN
    FOR_ROWS {
        const size_t at = (size_t)row * p.columns + column;
        Vec<N> y = load<N>(p.stream + at);
        const Vec<N> f = factors_at<N>(p.dropout, row / p.length, row % p.length, column);
        for (int i = 0; i < N; i++) {
            y.at[i] *= p.gate * f.at[i];
            sums.at[i] += rounded<E>(y.at[i]);
        }
        store(p.y + at, y);
    }
    write_sums(p.sums, p.columns, column, sums);
}

FOR_ELEMENTS(activate, Columns)
FOR_ELEMENTS(activate_back, Columns)
FOR_ELEMENTS(bias_and_mask, Columns)
FOR_ELEMENTS(mask_back, Columns)
FOR_ELEMENTS(branch_back, Columns)

// Adds the sums of the parts [parts][kinds][columns] to up to three rows of columns; null: not wanted.
struct Totals {
    const float *parts;
    float *to[3];
    unsigned int count, kinds, columns;
};

extern "C" __global__ void column_totals(const Totals p) {
    __shared__ float sums[32][33];
    const unsigned int column = blockIdx.x * 32 + threadIdx.x, kind = blockIdx.y;
    float *to = kind == 0 ? p.to[0] : kind == 1 ? p.to[1] : p.to[2];
    float sum = 0.0f;
    if (column < p.columns && to)
        for (unsigned int part = threadIdx.y; part < p.count; part += 32)
            sum += p.parts[((size_t)part * p.kinds + kind) * p.columns + column];
    sums[threadIdx.y][threadIdx.x] = sum;
    __syncthreads();
    if (threadIdx.y || column >= p.columns || !to) return;
    sum = 0.0f;
    for (int part = 0; part < 32; part++) sum += sums[part][threadIdx.x];
    to[column] += sum;
}

// to += a + b + scale * c, where all but `to` may be null; `factor`, where it is there, multiplies the sum.
template <class E> struct AddScaled {
    float *to;
    const float *a;
    const E *b;
    const float *c;
    const float *factor;
    float scale;
    size_t count;
};

template <class E, int N> __device__ void add_scaled(const AddScaled<E> &p) {
    const float factor = p.factor ? *p.factor : 1.0f;
    const size_t step = (size_t)gridDim.x * blockDim.x * N;
    for (size_t at = ((size_t)blockIdx.x * blockDim.x + threadIdx.x) * N; at < p.count; at += step) {
        Vec<N> sum = p.a ? load<N>(p.a + at) : all<N>(0.0f), to = load<N>(p.to + at);
        if (p.b) {
            const Vec<N> b = load<N>(p.b + at);
            for (int i = 0; i < N; i++) sum.at[i] += b.at[i];
        }
        if (p.c) {
            const Vec<N> c = load<N>(p.c + at);
            for (int i = 0; i < N; i++) sum.at[i] = fmaf(p.scale, c.at[i], sum.at[i]);
        }
        for (int i = 0; i < N; i++) to.at[i] = fmaf(factor, sum.at[i], to.at[i]);
        store(p.to + at, to);
    }
}

FOR_ELEMENTS(add_scaled, AddScaled)
