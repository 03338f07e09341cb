// Kernels with a mistake each, which the emulator must report. 64 threads, 64 ints, as many in dynamic shared memory.

extern "C" __global__ void none(int *out) { out[threadIdx.x] = 1; }

extern "C" __global__ void half_a_warp(int *out) {
    const unsigned a[4] = {}, b[2] = {};
    float d[4] = {};
    if (threadIdx.x % 32 < 16) emu_mma_m16n8k16_bf16(d, a, b, d);
    out[threadIdx.x] = (int)d[0];
}

extern "C" __global__ void divergent_barrier(int *out) {
    if (threadIdx.x != 40) __syncthreads();
    __shfl_sync(0xFFFFFFFFu, 1, 0);
    out[threadIdx.x] = 1;
}

extern "C" __global__ void missing_barrier(int *out) {
    __shared__ int kept[64];
    kept[threadIdx.x] = 1;
    out[threadIdx.x] = kept[63 - threadIdx.x];
}

extern "C" __global__ void missing_wait(int *out) {
    __shared__ int4 kept[16];
    if (threadIdx.x < 16) emu_cp_async_16(&kept[threadIdx.x], out + 4 * threadIdx.x, 16);
    emu_cp_async_commit();
    __syncthreads();
    out[threadIdx.x] = ((const int *)kept)[threadIdx.x];
}

extern "C" __global__ void beyond_global(int *out) { out[threadIdx.x + 1] = 1; }

extern "C" __global__ void beyond_static_shared(int *out) {
    __shared__ int kept[64];
    kept[threadIdx.x + 1] = 1;
    __syncthreads();
    out[threadIdx.x] = threadIdx.x ? kept[threadIdx.x] : 1;
}

extern "C" __global__ void beyond_dynamic_shared(int *out) {
    extern __shared__ int kept[];
    kept[threadIdx.x + 1] = 1;
    __syncthreads();
    out[threadIdx.x] = threadIdx.x ? kept[threadIdx.x] : 1;
}
