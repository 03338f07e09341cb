// Kernels that use what the emulator offers beyond plain CUDA C; check.cpp knows what they must give.
#include <cuda_bf16.h>

// One warp: D = A B + C with A 16 x 16, B 16 x 8 (column-major), C 16 x 8. A comes through ldmatrix, B by hand.
extern "C" __global__ void __launch_bounds__(32) mma_once(const ushort *__restrict__ a, const ushort *__restrict__ b,
                                                          const float *__restrict__ c, float *__restrict__ d) {
    __shared__ alignas(16) ushort rows[16][16 + 8];
    const unsigned lane = threadIdx.x, g = lane / 4, t = lane % 4;
#pragma unroll
    for (int i = 0; i < 8; i++) rows[lane / 2][lane % 2 * 8 + i] = a[lane / 2 * 16 + lane % 2 * 8 + i];
    __syncwarp();
    unsigned left[4], right[2];
    emu_ldmatrix_x4(left, &rows[lane % 16][lane / 16 * 8]);
    for (int i = 0; i < 2; i++) right[i] = b[g * 16 + 2 * t + 8 * i] | (unsigned)b[g * 16 + 2 * t + 8 * i + 1] << 16;
    float sums[4];
    for (int i = 0; i < 4; i++) sums[i] = c[(g + i / 2 * 8) * 8 + 2 * t + i % 2];
    emu_mma_m16n8k16_bf16(sums, left, right, sums);
    for (int i = 0; i < 4; i++) d[(g + i / 2 * 8) * 8 + 2 * t + i % 2] = sums[i];
}

// in[m][row][column] = number; out[variant][lane][register]
extern "C" __global__ void matrices(const uint4 *in, uint4 *out) {
    __shared__ uint4 tile[4][8];
    tile[threadIdx.x / 8][threadIdx.x % 8] = in[threadIdx.x];
    __syncthreads();
    const void *row = &tile[threadIdx.x / 8][threadIdx.x % 8];
    uint4 got = make_uint4(0, 0, 0, 0);
    emu_ldmatrix_x4(&got.x, row);
    out[threadIdx.x] = got;
    emu_ldmatrix_x4_trans(&got.x, row);
    out[32 + threadIdx.x] = got;
    got = make_uint4(0, 0, 0, 0);
    emu_ldmatrix_x2(&got.x, row);
    out[64 + threadIdx.x] = got;
    emu_ldmatrix_x2_trans(&got.x, row);
    out[96 + threadIdx.x] = got;
}

// Two stages of 16 bytes a thread, the second with `valid` bytes. out[0]: read before any wait; out[1], out[2]:
// first and second stage with one group left; out[3]: the second after the last wait.
extern "C" __global__ void copies(const uint4 *in, uint4 *out, const int valid) {
    __shared__ uint4 stage[2][64];
    const unsigned i = threadIdx.x, n = blockDim.x;
    for (int s = 0; s < 2; s++) {
        emu_cp_async_16(&stage[s][i], in + s * n + i, s ? valid : 16);
        emu_cp_async_commit();
    }
    out[i] = stage[0][i];
    emu_cp_async_wait(1);
    __syncthreads();
    out[n + i] = stage[0][(i + 1) % n];
    out[2 * n + i] = stage[1][i];
    emu_cp_async_wait(0);
    __syncthreads();
    out[3 * n + i] = stage[1][(i + 1) % n];
}

// A body for several types, with shared memory whose size hangs on the parameters.
template <class E, int N> struct Pair {
    E at[N];
};
template <class E, int N> __device__ __forceinline__ void reverse(const E *in, E *out) {
    constexpr int PAD = 1;
    __shared__ alignas(alignof(E)) E rows[2][(N > 4 ? N : 4) + PAD], last;
    __shared__ Pair<E, N + 1> pair;
    const int i = threadIdx.x;
    rows[1][i] = in[i];
    if (i == 0) last = in[N - 1];
    __syncthreads();
    pair.at[i] = i == 0 ? last : rows[1][N - 1 - i];
    __syncthreads();
    out[i] = pair.at[i];
}
extern "C" __global__ void reverse_floats(const float *in, float *out) { reverse<float, 32>(in, out); }
extern "C" __global__ void reverse_bf16(const __nv_bfloat16 *in, __nv_bfloat16 *out) {
    reverse<__nv_bfloat16, 32>(in, out);
}

// Every lane finishes a chain of shuffles and votes of its own length; dynamic shared memory is not 16 bytes only.
extern "C" __global__ void chains(int *out) {
    extern __shared__ __align__(16) int kept[];
    const int lane = threadIdx.x % 32;
    int sum = lane;
    for (int width = 16; width > 0; width /= 2) sum += __shfl_xor_sync(0xFFFFFFFFu, sum, width);
    kept[threadIdx.x] = sum; // 496
    if (lane < 8) {
        const int next = __shfl_down_sync(0xFFu, lane, 1); // 1 2 .. 7 7
        kept[threadIdx.x] += 1000 * next + 10000 * __popc(__ballot_sync(0xFFu, lane & 1)); // 4
        if (lane < 4) return;
    }
    kept[threadIdx.x] += 100000 * __any_sync(0xFFFFFFF0u, lane == 9); // the first four lanes are gone
    __syncwarp(0xFFFFFFF0u);
    out[threadIdx.x] = kept[threadIdx.x];
}
