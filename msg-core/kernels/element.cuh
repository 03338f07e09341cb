// Numbers as activations are stored: f32, or bf16 as its 16 bits. All arithmetic is in f32.
#pragma once

struct bf16 {
    unsigned short bits;
};

__device__ __forceinline__ float to_float(float x) { return x; }
__device__ __forceinline__ float to_float(bf16 x) { return __uint_as_float((unsigned int)x.bits << 16); }

// Rounds to nearest, ties to even.
__device__ __forceinline__ bf16 to_bf16(float x) {
#ifdef CUDA_EMU
    const unsigned int bits = __float_as_uint(x);
    if ((bits & 0x7FFFFFFFu) > 0x7F800000u) return {(unsigned short)(bits >> 16 | 0x40u)};
    return {(unsigned short)((bits + 0x7FFFu + (bits >> 16 & 1u)) >> 16)};
#else
    unsigned short bits;
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(bits) : "f"(x));
    return {bits};
#endif
}

template <class E> struct Stored;
template <> struct Stored<float> {
    static __device__ __forceinline__ float of(float x) { return x; }
};
template <> struct Stored<bf16> {
    static __device__ __forceinline__ bf16 of(float x) { return to_bf16(x); }
};

// The value as an element stores it.
template <class E> __device__ __forceinline__ float rounded(float x) { return to_float(Stored<E>::of(x)); }

// Two bf16 in one register, the first in the lower half.
__device__ __forceinline__ unsigned int pair(float first, float second) {
#ifdef CUDA_EMU
    return (unsigned int)to_bf16(first).bits | (unsigned int)to_bf16(second).bits << 16;
#else
    unsigned int bits;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(bits) : "f"(second), "f"(first));
    return bits;
#endif
}

// N entries at once, the vector width: 1 anywhere, 4 at places that are multiples of 4.
template <int N> struct Vec {
    float at[N];
};

template <int N> __device__ __forceinline__ Vec<N> load(const float *from) {
    if constexpr (N == 4) {
        const float4 v = *reinterpret_cast<const float4 *>(from);
        return {{v.x, v.y, v.z, v.w}};
    } else {
        return {{*from}};
    }
}

template <int N> __device__ __forceinline__ Vec<N> load(const bf16 *from) {
    if constexpr (N == 4) {
        const float2 v = *reinterpret_cast<const float2 *>(from);
        const unsigned int a = __float_as_uint(v.x), b = __float_as_uint(v.y);
        return {{__uint_as_float(a << 16), __uint_as_float(a & 0xFFFF0000u), __uint_as_float(b << 16),
                 __uint_as_float(b & 0xFFFF0000u)}};
    } else {
        return {{to_float(*from)}};
    }
}

template <int N> __device__ __forceinline__ void store(float *to, const Vec<N> &v) {
    if constexpr (N == 4)
        *reinterpret_cast<float4 *>(to) = make_float4(v.at[0], v.at[1], v.at[2], v.at[3]);
    else
        *to = v.at[0];
}

template <int N> __device__ __forceinline__ void store(bf16 *to, const Vec<N> &v) {
    if constexpr (N == 4)
        *reinterpret_cast<float2 *>(to) = make_float2(__uint_as_float(pair(v.at[0], v.at[1])),
                                                      __uint_as_float(pair(v.at[2], v.at[3])));
    else
        *to = to_bf16(v.at[0]);
}

template <int N> __device__ __forceinline__ Vec<N> all(float x) {
    Vec<N> v;
    for (int i = 0; i < N; i++) v.at[i] = x;
    return v;
}

// Each kernel for both elements, and for one or four entries a thread: `NAME_f32`, `NAME_f32_4`, `NAME_bf16`, ...
#define FOR_ELEMENTS(name, Parameters)                                                             \
    extern "C" __global__ void name##_f32(const Parameters<float> p) { name<float, 1>(p); }        \
    extern "C" __global__ void name##_f32_4(const Parameters<float> p) { name<float, 4>(p); }      \
    extern "C" __global__ void name##_bf16(const Parameters<bf16> p) { name<bf16, 1>(p); }         \
    extern "C" __global__ void name##_bf16_4(const Parameters<bf16> p) { name<bf16, 4>(p); }
