// Residual and masked LayerNorm in one pass over the rows, and back: the twin of cpu.rs beside it.
//
// Floor, in bytes for each entry of a row (E: 4 for f32, 2 for bf16): forward behind a branch reads 4 + E and
// writes 4 + E; backward reads 4 + E + 4 and writes 4 + E. H100 at 3.0 TB/s: hidden 768, 16,384 rows, bf16: 50 us
// forward, 67 us backward.
#include "dropout.cuh"
#include "warp.cuh"

// y = norm(sum), sum = x + gate * drop(branch + branch_bias). Any of the outputs may be null, and weight: then only the sum
// is made.
template <class E> struct ResidualNorm {
    const float *x;
    const E *branch;   // null: sum = x
    const float *branch_bias;
    float *sum;
    const float *weight, *bias;
    const float *mask; // null: every unit counts
    E *normal;
    float *stream;     // base + blend * (y - base), or y where base is null
    const float *base;
    float *mean, *rstd;
    Dropout dropout;
    float gate, total, eps, blend;
    unsigned int rows, width, length;
    unsigned int cached; // whether a row of each warp fits the shared memory
};

// One warp does one row; a lane sees its own entries only, so no barrier is needed.
template <class E, int N> __device__ void residual_norm(const ResidualNorm<E> &p) {
    extern __shared__ float cache[];
    const unsigned int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const unsigned int row = blockIdx.x * (blockDim.x / 32) + warp;
    if (row >= p.rows) return;
    const size_t begin = (size_t)row * p.width;
    float *kept = p.cached ? cache + (size_t)warp * p.width : nullptr;
    const unsigned int first = lane * N, step = 32 * N;
    float sum = 0.0f;
    for (unsigned int at = first; at < p.width; at += step) {
        Vec<N> v = load<N>(p.x + begin + at);
        if (p.branch) {
            const Vec<N> b = load<N>(p.branch + begin + at), branch_bias = load<N>(p.branch_bias + at);
            const Vec<N> f = factors_at<N>(p.dropout, row / p.length, row % p.length, at);
            for (int i = 0; i < N; i++) v.at[i] = fmaf(p.gate * f.at[i], b.at[i] + branch_bias.at[i], v.at[i]);
        }
        if (p.sum) store(p.sum + begin + at, v);
        if (kept) store(kept + at, v);
        const Vec<N> c = p.mask ? load<N>(p.mask + at) : all<N>(1.0f);
        for (int i = 0; i < N; i++) sum += c.at[i] == 0.0f ? 0.0f : c.at[i] * v.at[i];
    }
    if (!p.weight) return;
    const float *values = kept ? kept : (p.sum ? p.sum : p.x) + begin;
    const float mean = warp_sum(sum) / p.total;
    float squares = 0.0f;
    for (unsigned int at = first; at < p.width; at += step) {
        const Vec<N> v = load<N>(values + at), c = p.mask ? load<N>(p.mask + at) : all<N>(1.0f);
        for (int i = 0; i < N; i++) {
            const float centred = v.at[i] - mean;
            squares += c.at[i] == 0.0f ? 0.0f : c.at[i] * centred * centred;
        }
    }
    const float rstd = 1.0f / sqrtf(warp_sum(squares) / p.total + p.eps);
    if (lane == 0) {
        if (p.mean) p.mean[row] = mean;
        if (p.rstd) p.rstd[row] = rstd;
    }
    for (unsigned int at = first; at < p.width; at += step) {
        const Vec<N> v = load<N>(values + at), c = p.mask ? load<N>(p.mask + at) : all<N>(1.0f);
        const Vec<N> weight = load<N>(p.weight + at), bias = load<N>(p.bias + at);
        Vec<N> y;
        for (int i = 0; i < N; i++) {
            const float normal = fmaf((v.at[i] - mean) * rstd, weight.at[i], bias.at[i]);
            y.at[i] = c.at[i] == 0.0f ? 0.0f : c.at[i] * normal;
        }
        if (p.normal) store(p.normal + begin + at, y);
        if (!p.stream) continue;
        if (p.base) {
            const Vec<N> base = load<N>(p.base + begin + at);
            for (int i = 0; i < N; i++) y.at[i] = base.at[i] * (1.0f - p.blend) + p.blend * y.at[i];
        }
        store(p.stream + begin + at, y);
    }
}

FOR_ELEMENTS(residual_norm, ResidualNorm)

// Gradient of the norm's input, added to dx_in (null: to 0); where `branch` is asked for, that of the branch before
// the norm too. dy = scale * dy_stream + dy_normal, either of which may be null.
template <class E> struct NormBackward {
    const float *x, *mean, *rstd;
    const float *dy_stream;
    const E *dy_normal;
    const float *weight, *mask;
    const float *dx_in;
    float *dx;         // written, or added to where `adds` is set
    E *branch;         // gate * drop(dx), without what dx held before
    float *parts;      // [gridDim.x][3][width]: sums over rows for weight, bias and the branch's bias
    Dropout dropout;
    float gate, total, scale;
    unsigned int rows, width, length;
    unsigned int adds;
    unsigned int shared; // whether the sums over rows fit the shared memory
};

// One block does a row at a time and keeps the sums over its rows; a thread has its own columns.
template <class E, int N> __device__ void norm_backward(const NormBackward<E> &p) {
    extern __shared__ float columns[];
    __shared__ float partial[2][2][32];
    const unsigned int first = threadIdx.x * N, step = blockDim.x * N, warps = blockDim.x / 32;
    float *parts = p.parts + (size_t)blockIdx.x * 3 * p.width;
    float *sums = p.shared ? columns : parts;
    float *of_weight = sums, *of_bias = sums + p.width, *of_branch_bias = sums + 2 * (size_t)p.width;
    for (unsigned int at = first; at < p.width; at += step) {
        store(of_weight + at, all<N>(0.0f));
        store(of_bias + at, all<N>(0.0f));
        store(of_branch_bias + at, all<N>(0.0f));
    }
    unsigned int turn = 0;
    for (unsigned int row = blockIdx.x; row < p.rows; row += gridDim.x, turn ^= 1) {
        const size_t begin = (size_t)row * p.width;
        const float mean = p.mean[row], rstd = p.rstd[row];
        float direct = 0.0f, along = 0.0f;
        for (unsigned int at = first; at < p.width; at += step) {
            const Vec<N> x = load<N>(p.x + begin + at), weight = load<N>(p.weight + at);
            const Vec<N> c = p.mask ? load<N>(p.mask + at) : all<N>(1.0f);
            Vec<N> dy = p.dy_normal ? load<N>(p.dy_normal + begin + at) : all<N>(0.0f);
            Vec<N> dweight = load<N>(of_weight + at), dbias = load<N>(of_bias + at);
            if (p.dy_stream) {
                const Vec<N> more = load<N>(p.dy_stream + begin + at);
                for (int i = 0; i < N; i++) dy.at[i] += p.scale * more.at[i];
            }
            for (int i = 0; i < N; i++) {
                if (c.at[i] == 0.0f) continue;
                const float normal = (x.at[i] - mean) * rstd, d = c.at[i] * dy.at[i];
                direct += d * weight.at[i];
                along += d * weight.at[i] * normal;
                dweight.at[i] += d * normal;
                dbias.at[i] += d;
            }
            store(of_weight + at, dweight);
            store(of_bias + at, dbias);
        }
        direct = warp_sum(direct);
        along = warp_sum(along);
        if (threadIdx.x % 32 == 0) {
            partial[turn][0][threadIdx.x / 32] = direct;
            partial[turn][1][threadIdx.x / 32] = along;
        }
        // One barrier a row: the other turn's sums are read before the next row's barrier.
        __syncthreads();
        direct = along = 0.0f;
        for (unsigned int warp = 0; warp < warps; warp++) {
            direct += partial[turn][0][warp];
            along += partial[turn][1][warp];
        }
        direct /= p.total;
        along /= p.total;
        for (unsigned int at = first; at < p.width; at += step) {
            const Vec<N> x = load<N>(p.x + begin + at), weight = load<N>(p.weight + at);
            const Vec<N> c = p.mask ? load<N>(p.mask + at) : all<N>(1.0f);
            Vec<N> dy = p.dy_normal ? load<N>(p.dy_normal + begin + at) : all<N>(0.0f);
            Vec<N> dx = p.dx_in ? load<N>(p.dx_in + begin + at) : all<N>(0.0f);
            if (p.dy_stream) {
                const Vec<N> more = load<N>(p.dy_stream + begin + at);
                for (int i = 0; i < N; i++) dy.at[i] += p.scale * more.at[i];
            }
            for (int i = 0; i < N; i++) {
                if (c.at[i] == 0.0f) continue;
                const float normal = (x.at[i] - mean) * rstd;
                dx.at[i] += rstd * c.at[i] * (dy.at[i] * weight.at[i] - direct - normal * along);
            }
            if (p.branch) {
                const Vec<N> f = factors_at<N>(p.dropout, row / p.length, row % p.length, at);
                Vec<N> branch, dbranch_bias = load<N>(of_branch_bias + at);
                for (int i = 0; i < N; i++) {
                    branch.at[i] = p.gate * f.at[i] * dx.at[i];
                    dbranch_bias.at[i] += rounded<E>(branch.at[i]);
                }
                store(p.branch + begin + at, branch);
                store(of_branch_bias + at, dbranch_bias);
            }
            if (p.adds) {
                const Vec<N> before = load<N>(p.dx + begin + at);
                for (int i = 0; i < N; i++) dx.at[i] += before.at[i];
            }
            store(p.dx + begin + at, dx);
        }
    }
    if (!p.shared) return;
    for (unsigned int at = first; at < p.width; at += step) {
        store(parts + at, load<N>(of_weight + at));
        store(parts + p.width + at, load<N>(of_bias + at));
        store(parts + 2 * (size_t)p.width + at, load<N>(of_branch_bias + at));
    }
}

FOR_ELEMENTS(norm_backward, NormBackward)
