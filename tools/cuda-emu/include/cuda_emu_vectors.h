// Vector types of CUDA, and bf16 as <cuda_bf16.h> has it. Included by cuda_emu.h.
#pragma once

typedef unsigned short ushort;
typedef unsigned int uint;

#define EMU_VECTORS(T, name, two, four)                                                     \
    struct alignas(two) name##2 {                                                           \
        T x, y;                                                                             \
    };                                                                                      \
    struct alignas(four) name##4 {                                                          \
        T x, y, z, w;                                                                       \
    };                                                                                      \
    static inline name##2 make_##name##2(T x, T y) { return {x, y}; }                       \
    static inline name##4 make_##name##4(T x, T y, T z, T w) { return {x, y, z, w}; }
EMU_VECTORS(unsigned, uint, 8, 16)
EMU_VECTORS(float, float, 8, 16)
EMU_VECTORS(int, int, 8, 16)
EMU_VECTORS(unsigned short, ushort, 4, 8)
EMU_VECTORS(short, short, 4, 8)
EMU_VECTORS(unsigned char, uchar, 2, 4)
static inline uint3 make_uint3(unsigned x, unsigned y, unsigned z) { return {x, y, z}; }
struct float3 {
    float x, y, z;
};
static inline float3 make_float3(float x, float y, float z) { return {x, y, z}; }
struct alignas(16) double2 {
    double x, y;
};
static inline double2 make_double2(double x, double y) { return {x, y}; }
struct alignas(16) ulonglong2 {
    unsigned long long x, y;
};

// ---- bf16: the upper half of a float

namespace emu {
static inline float bf16_value(unsigned short bits) { return emu_bits<float>((unsigned)bits << 16); }
// To nearest, ties to even; every NaN becomes the one that the hardware gives.
static inline unsigned short bf16_bits(float f) {
    const unsigned u = emu_bits<unsigned>(f);
    if ((u & 0x7FFFFFFFu) > 0x7F800000u) return 0x7FFF;
    return (unsigned short)((u + 0x7FFFu + (u >> 16 & 1)) >> 16);
}
} // namespace emu

struct __nv_bfloat16 {
    unsigned short bits;
    __nv_bfloat16() = default;
    __nv_bfloat16(float f) : bits(emu::bf16_bits(f)) {}
    operator float() const { return emu::bf16_value(bits); }
};
struct alignas(4) __nv_bfloat162 {
    __nv_bfloat16 x, y;
};
static inline float __bfloat162float(__nv_bfloat16 b) { return b; }
static inline __nv_bfloat16 __float2bfloat16(float f) { return f; }
static inline __nv_bfloat16 __float2bfloat16_rn(float f) { return f; }
static inline unsigned short __bfloat16_as_ushort(__nv_bfloat16 b) { return b.bits; }
static inline __nv_bfloat16 __ushort_as_bfloat16(unsigned short u) { return emu_bits<__nv_bfloat16>(u); }
static inline __nv_bfloat162 __floats2bfloat162_rn(float x, float y) { return {x, y}; }
static inline float2 __bfloat1622float2(__nv_bfloat162 b) { return {b.x, b.y}; }
