// Counter-based random numbers: the twin of src/random.rs, which says what and why.
//
// Integer operations and correctly rounded float operations only, each spelled as an intrinsic so that
// no compiler contracts or reorders them: the bits are those of the Cpu.
#pragma once

struct Key {
    unsigned int lo, hi;
};

struct Words {
    unsigned int word[4];
};

// The Philox4x32-10 block with counter (c0, c1, c2, c3).
__device__ __forceinline__ Words words_at(Key key, unsigned int c0, unsigned int c1, unsigned int c2,
                                          unsigned int c3) {
    Words x = {{c0, c1, c2, c3}};
    unsigned int k0 = key.lo, k1 = key.hi;
    for (int round = 0; round < 10; round++) {
        const unsigned int hi0 = __umulhi(0xD2511F53u, x.word[0]), lo0 = 0xD2511F53u * x.word[0];
        const unsigned int hi1 = __umulhi(0xCD9E8D57u, x.word[2]), lo1 = 0xCD9E8D57u * x.word[2];
        x = {{hi1 ^ x.word[1] ^ k0, lo1, hi0 ^ x.word[3] ^ k1, lo0}};
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    return x;
}

// Word c3 % 4 of the block with counter (c0, c1, c2, c3 / 4).
__device__ __forceinline__ unsigned int bits_at(Key key, unsigned int c0, unsigned int c1, unsigned int c2,
                                                unsigned int c3) {
    const Words x = words_at(key, c0, c1, c2, c3 / 4);
    const unsigned int word = c3 % 4;
    return word == 0 ? x.word[0] : word == 1 ? x.word[1] : word == 2 ? x.word[2] : x.word[3];
}

// Uniform in the open interval (0, 1).
__device__ __forceinline__ float uniform(unsigned int bits) {
    return __fmaf_rn((float)(int)(bits >> 9), 0x1p-23f, 0x1p-24f);
}

// QUANTILE_SHIFT - log2(q).
__device__ __forceinline__ float shifted_neg_log2(float q) {
    const int exponent = (int)(__float_as_uint(q) - 0x3F3504F3u) >> 23;
    const float f = __fsub_rn(__uint_as_float(__float_as_uint(q) - ((unsigned int)exponent << 23)), 1.0f);
    float y = -0.14575763f;
    y = __fmaf_rn(y, f, 0.23688252f);
    y = __fmaf_rn(y, f, -0.25006118f);
    y = __fmaf_rn(y, f, 0.28670853f);
    y = __fmaf_rn(y, f, -0.3600881f);
    y = __fmaf_rn(y, f, 0.4809394f);
    y = __fmaf_rn(y, f, -0.7213571f);
    y = __fmaf_rn(y, f, 1.4426948f);
    return __fmaf_rn(-f, y, __fsub_rn(5.0f, (float)exponent));
}

// Standard normal by the inverse of the distribution function.
__device__ __forceinline__ float normal(unsigned int bits) {
    const int folded = (int)(bits ^ (unsigned int)((int)bits >> 31));
    const float x = __fmaf_rn((float)folded, 0x1p-31f, 0x1p-32f);
    const float one_minus_x = __fmaf_rn((float)(folded ^ 0x7FFFFFFF), 0x1p-31f, 0x1p-32f);
    const float q = __fmaf_rn(one_minus_x, x, one_minus_x);
    const float t = __fsub_rn(__fsqrt_rn(shifted_neg_log2(q)), 4.125f);
    float y = -0.0000027787935f;
    y = __fmaf_rn(y, t, 0.0000037183786f);
    y = __fmaf_rn(y, t, 0.000040052146f);
    y = __fmaf_rn(y, t, -0.0000755666f);
    y = __fmaf_rn(y, t, -0.00017823835f);
    y = __fmaf_rn(y, t, 0.00056567986f);
    y = __fmaf_rn(y, t, -0.00019391859f);
    y = __fmaf_rn(y, t, -0.0012683134f);
    y = __fmaf_rn(y, t, 0.003517644f);
    y = __fmaf_rn(y, t, -0.005868944f);
    y = __fmaf_rn(y, t, 0.004853696f);
    y = __fmaf_rn(y, t, 0.007654747f);
    y = __fmaf_rn(y, t, -0.053175885f);
    y = __fmaf_rn(y, t, 1.3999926f);
    y = __fmaf_rn(y, t, 3.845037f);
    const float size = __fmul_rn(x, y);
    return __uint_as_float(__float_as_uint(size) | (bits & 0x80000000u));
}
