// Sums and maxima over a warp, in an order that is always the same.
#pragma once

#define ALL_LANES 0xFFFFFFFFu

__device__ __forceinline__ float warp_sum(float x) {
    for (int apart = 16; apart > 0; apart /= 2) x += __shfl_xor_sync(ALL_LANES, x, apart);
    return x;
}

__device__ __forceinline__ float warp_max(float x) {
    for (int apart = 16; apart > 0; apart /= 2) x = fmaxf(x, __shfl_xor_sync(ALL_LANES, x, apart));
    return x;
}
