// Cross-entropy of rows of logits and its gradient: the twin of cpu.rs beside it.
//
// Floor, in bytes a logit: reads 4 (again from the cache for the gradient), writes E. H100 at 3.0 TB/s: 16,384 rows of
// 50,257: 1.1 ms and 0.55 ms (bf16).
#include "element.cuh"
#include "warp.cuh"

template <class E> struct CrossEntropy {
    const float *logits;              // [rows][stride], of which the first `classes` count
    const float *bias;                // [classes]; null: 0
    const unsigned long long *labels; // 0 where the row does not count
    const float *counts;              // 1 where it counts, else 0
    E *dlogits;                       // [rows][stride], 0 beyond the classes; or null
    float *losses;                    // [rows]
    float share;                      // what one counted row is worth in the whole
    unsigned int classes, stride;
};

// N logits with their bias; beyond the classes those of a class that cannot be.
template <class E, int N>
__device__ __forceinline__ Vec<N> logits_at(const CrossEntropy<E> &p, size_t begin, unsigned int at) {
    Vec<N> logit = load<N>(p.logits + begin + at);
    for (int i = 0; i < N; i++) {
        if (at + i >= p.classes) logit.at[i] = -INFINITY;
        else if (p.bias) logit.at[i] += p.bias[at + i];
    }
    return logit;
}

// One block a row: the largest logit and the sum of exponentials in one pass, the gradient in a second one.
template <class E, int N> __device__ void cross_entropy(const CrossEntropy<E> &p) {
    __shared__ float mosts[32], totals[32];
    const size_t row = blockIdx.x, begin = row * p.stride;
    const unsigned int first = threadIdx.x * N, step = blockDim.x * N;
    const float count = p.counts[row];
    if (count == 0.0f) {
        if (threadIdx.x == 0) p.losses[row] = 0.0f;
        if (p.dlogits)
            for (unsigned int at = first; at < p.stride; at += step) store(p.dlogits + begin + at, all<N>(0.0f));
        return;
    }
    float most = -INFINITY, total = 0.0f;
    for (unsigned int at = first; at < p.classes; at += step) {
        const Vec<N> logit = logits_at<E, N>(p, begin, at);
        float larger = most;
        for (int i = 0; i < N; i++) larger = fmaxf(larger, logit.at[i]);
        if (larger > most) {
            total *= expf(most - larger);
            most = larger;
        }
        // NaN is no larger than anything, and makes the total NaN.
        for (int i = 0; i < N; i++) total += expf(logit.at[i] - (most == -INFINITY ? 0.0f : most));
    }
    const float largest = warp_max(most);
    // A thread without a logit has nothing to fade.
    total = warp_sum(most == -INFINITY ? total : total * expf(most - largest));
    if (threadIdx.x % 32 == 0) {
        mosts[threadIdx.x / 32] = largest;
        totals[threadIdx.x / 32] = total;
    }
    __syncthreads();
    most = -INFINITY;
    total = 0.0f;
    for (unsigned int warp = 0; warp < blockDim.x / 32; warp++) most = fmaxf(most, mosts[warp]);
    for (unsigned int warp = 0; warp < blockDim.x / 32; warp++)
        total += mosts[warp] == -INFINITY ? totals[warp] : totals[warp] * expf(mosts[warp] - most);
    const unsigned int label = (unsigned int)p.labels[row];
    if (threadIdx.x == 0) {
        const float chosen = p.logits[begin + label] + (p.bias ? p.bias[label] : 0.0f);
        p.losses[row] = count * (most + logf(total) - chosen);
    }
    if (!p.dlogits) return;
    const float worth = count * p.share, factor = worth / total;
    for (unsigned int at = first; at < p.stride; at += step) {
        Vec<N> logit = logits_at<E, N>(p, begin, at);
        for (int i = 0; i < N; i++) {
            logit.at[i] = factor * expf(logit.at[i] - most);
            if (at + i == label) logit.at[i] -= worth;
        }
        store(p.dlogits + begin + at, logit);
    }
}

FOR_ELEMENTS(cross_entropy, CrossEntropy)

// loss[0] = share * sum of the rows' losses, in double precision and a fixed order: one block of 256 threads.
extern "C" __global__ void total_loss(const float *losses, const size_t rows, const float share, float *loss) {
    __shared__ double sums[256];
    double sum = 0.0;
    for (size_t row = threadIdx.x; row < rows; row += 256) sum += (double)losses[row];
    sums[threadIdx.x] = sum;
    for (unsigned int half = 128; half > 0; half /= 2) {
        __syncthreads();
        if (threadIdx.x < half) sums[threadIdx.x] += sums[threadIdx.x + half];
    }
    if (threadIdx.x == 0) loss[0] = (float)(sums[0] * (double)share);
}
