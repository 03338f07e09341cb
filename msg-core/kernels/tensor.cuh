// Tensor cores and asynchronous copies: PTX instructions by name, or the emulator's functions in their place.
//
// Fragments as the PTX ISA lays them out for mma.m16n8k16; g = lane / 4, t = lane % 4. A: rows g and g + 8, columns
// 2 t, 2 t + 1 and these + 8; B: the same rows of K, column g; C: rows g and g + 8, columns 2 t and 2 t + 1.
#pragma once
#include "element.cuh"

// C += A B.
__device__ __forceinline__ void multiply_add(float (&c)[4], const unsigned int (&a)[4], unsigned int b0,
                                             unsigned int b1) {
#ifdef CUDA_EMU
    const unsigned int b[2] = {b0, b1};
    emu_mma_m16n8k16_bf16(c, a, b, c);
#else
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
#endif
}

#ifndef CUDA_EMU
__device__ __forceinline__ unsigned int shared_address(const void *at) {
    return (unsigned int)__cvta_generic_to_shared(at);
}
#endif

// Four 8 x 8 matrices; each lane names a row: lanes 0 to 7 those of the first.
__device__ __forceinline__ void load_matrices(unsigned int (&r)[4], const bf16 *row) {
#ifdef CUDA_EMU
    emu_ldmatrix_x4(r, row);
#else
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(shared_address(row))
                 : "memory");
#endif
}

// The same, each matrix transposed.
__device__ __forceinline__ void load_matrices_turned(unsigned int (&r)[4], const bf16 *row) {
#ifdef CUDA_EMU
    emu_ldmatrix_x4_trans(r, row);
#else
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(shared_address(row))
                 : "memory");
#endif
}

// Copies 16 bytes to shared memory, or zeros where nothing is to be copied; done once it is waited for.
__device__ __forceinline__ void copy_async(bf16 *to, const bf16 *from, bool copies) {
    const int bytes = copies ? 16 : 0;
#ifdef CUDA_EMU
    emu_cp_async_16(to, from, bytes);
#else
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(to)), "l"(from), "r"(bytes)
                 : "memory");
#endif
}

__device__ __forceinline__ void end_group() {
#ifdef CUDA_EMU
    emu_cp_async_commit();
#else
    asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}

// Waits until at most LEFT of the groups are under way.
template <int LEFT> __device__ __forceinline__ void wait_for_groups() {
#ifdef CUDA_EMU
    emu_cp_async_wait(LEFT);
#else
    asm volatile("cp.async.wait_group %0;" ::"n"(LEFT) : "memory");
#endif
}
