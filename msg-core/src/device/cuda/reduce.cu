// Sums over tensors in double precision, in an order that depends on the number of values alone.
//
// A block sums a piece of fixed length: thread t takes the values t, t + THREADS, ... of it, and a tree
// adds the threads' sums. One more block adds the pieces' sums the same way, and their sum to what the
// tensors before it gave. No atomics.
// Floor: 4 bytes read for each value; H100 at 3.0 TB/s, 38 M values: 50 us.

#include "sums.cuh"

#define PIECE 16384

__device__ __forceinline__ size_t piece_end(size_t begin, size_t count) {
    return begin + PIECE < count ? begin + PIECE : count;
}

// parts[piece] = sum of its values
extern "C" __global__ void piece_sums(const float *values, const size_t count, double *parts) {
    const size_t begin = (size_t)blockIdx.x * PIECE, end = piece_end(begin, count);
    double sum = 0.0;
    for (size_t i = begin + threadIdx.x; i < end; i += THREADS) sum += (double)values[i];
    sum = block_sum(sum);
    if (threadIdx.x == 0) parts[blockIdx.x] = sum;
}

// parts[piece] = sum of the squared distances of its values from `centre`
extern "C" __global__ void piece_squares(const float *values, const size_t count, const double centre,
                                         double *parts) {
    const size_t begin = (size_t)blockIdx.x * PIECE, end = piece_end(begin, count);
    double sum = 0.0;
    for (size_t i = begin + threadIdx.x; i < end; i += THREADS) {
        const double distance = (double)values[i] - centre;
        sum += distance * distance;
    }
    sum = block_sum(sum);
    if (threadIdx.x == 0) parts[blockIdx.x] = sum;
}

// total[0] += sum of the parts
extern "C" __global__ void total(const double *parts, const size_t count, double *total) {
    double sum = 0.0;
    for (size_t i = threadIdx.x; i < count; i += THREADS) sum += parts[i];
    sum = block_sum(sum);
    if (threadIdx.x == 0) total[0] += sum;
}
