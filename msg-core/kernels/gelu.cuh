// GELU and its slope: the twin of src/ops/elementary.rs.
#pragma once

struct ValueAndSlope {
    float value, slope;
};

__device__ __forceinline__ ValueAndSlope gelu_tanh(float x) {
    const float root = 0.7978845608f; // sqrt(2 / pi)
    const float square = x * x;
    const float t = tanhf(root * x * fmaf(0.044715f, square, 1.0f));
    const float half = 0.5f * (1.0f + t);
    const float inner = root * fmaf(3.0f * 0.044715f, square, 1.0f);
    return {x * half, fmaf(0.5f * x * (1.0f - t * t), inner, half)};
}

__device__ __forceinline__ ValueAndSlope gelu_erf(float x) {
    const float share = 0.5f * erfcf(-0.7071067812f * x);
    const float density = 0.3989422804f * expf(-0.5f * x * x);
    return {x * share, fmaf(x, density, share)};
}
