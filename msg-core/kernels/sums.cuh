// Sum over the block's threads, the same for any launch with as many threads: a tree over their sums.

#pragma once

#define THREADS 256

// Valid in thread 0.
__device__ __forceinline__ double block_sum(double sum) {
    __shared__ double sums[THREADS];
    sums[threadIdx.x] = sum;
    for (unsigned int half = THREADS / 2; half > 0; half /= 2) {
        __syncthreads();
        if (threadIdx.x < half) sums[threadIdx.x] += sums[threadIdx.x + half];
    }
    return sums[0];
}
