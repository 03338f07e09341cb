// One Muon update of one tensor of matrices: the twin of cpu.rs. The products between these kernels are cuBLAS'.
//
// Elementwise parts do the Cpu's float operations in its order, none contracted. An update that the status forbids
// puts the parameter's old values back, leaves the momentum alone, and orthogonalizes zeros in between.
// Floor: 28 bytes an entry for momentum and norm, 12 for the last step, and 12 for each Newton-Schulz step.

#include "sums.cuh"

// As status.cu leaves it.
struct Status {
    double square, grad_scale, applied, loss;
};

struct AgeGroup {
    float momentum, rate, decay;
};

struct Tensor {
    const float *grad, *saved;
    float *momentum, *update, *value;
    const Status *status;
    const AgeGroup *groups;
    const unsigned int *units;
    size_t count;
    unsigned int size[4];  // padded by leading axes of one unit
    unsigned int begin[4]; // where the age groups of the axis' units begin; NO_UNITS: all are in age group 0
    unsigned int several;  // whether there is more than one age group
    float share;
};

#define NO_UNITS 0xFFFFFFFFu

__device__ __forceinline__ unsigned int group_of(const Tensor &t, int axis, unsigned int unit) {
    const unsigned int begin = t.begin[axis];
    return begin == NO_UNITS ? 0 : t.units[begin + unit];
}

// The latest age group among an entry's units.
__device__ __forceinline__ const AgeGroup &group_at(const Tensor &t, size_t i) {
    if (!t.several) return t.groups[0];
    const unsigned int width = t.size[3], row = (unsigned int)(i / width), lead = row / t.size[2];
    unsigned int group = group_of(t, 3, (unsigned int)(i % width));
    group = max(group, group_of(t, 2, row % t.size[2]));
    group = max(group, group_of(t, 1, lead % t.size[1]));
    group = max(group, group_of(t, 0, lead / t.size[1]));
    return t.groups[group];
}

#define EACH(i, count) \
    for (size_t i = blockIdx.x * (size_t)blockDim.x + threadIdx.x; i < count; i += (size_t)gridDim.x * blockDim.x)

// momentum += share (g - momentum); update = share g + factor momentum
extern "C" __global__ void muon_momentum(const Tensor t) {
    const bool applied = t.status->applied != 0.0;
    const float scale = (float)t.status->grad_scale;
    EACH(i, t.count) {
        if (!applied) {
            t.update[i] = 0.0f;
            continue;
        }
        const float g = __fmul_rn(t.grad[i], scale), old = t.momentum[i];
        const float m = __fadd_rn(old, __fmul_rn(__fsub_rn(g, old), t.share));
        t.momentum[i] = m;
        t.update[i] = __fadd_rn(__fmul_rn(g, t.share), __fmul_rn(m, group_at(t, i).momentum));
    }
}

// value = saved, decayed, less rate update
extern "C" __global__ void muon_apply(const Tensor t) {
    const bool applied = t.status->applied != 0.0;
    EACH(i, t.count) {
        float p = t.saved[i];
        if (applied) {
            const AgeGroup c = group_at(t, i);
            p = __fsub_rn(p, __fmul_rn(p, c.decay));
            p = __fsub_rn(p, __fmul_rn(c.rate, t.update[i]));
        }
        t.value[i] = p;
    }
}

struct Norm {
    float *x;      // matrices of `count` entries, one after another
    double *parts; // PIECES for each
    size_t count;
    float eps;
};

#define PIECES 64

// parts[matrix][piece] = sum of the squares of the piece. Grid: pieces by matrices.
extern "C" __global__ void muon_squares(const Norm n) {
    const float *x = n.x + blockIdx.y * n.count;
    double sum = 0.0;
    EACH(i, n.count) sum += (double)x[i] * (double)x[i];
    sum = block_sum(sum);
    if (threadIdx.x == 0) n.parts[blockIdx.y * PIECES + blockIdx.x] = sum;
}

// x /= ||x|| + eps, each matrix by its own norm. Grid: pieces by matrices.
extern "C" __global__ void muon_normalize(const Norm n) {
    float *x = n.x + blockIdx.y * n.count;
    double sum = 0.0;
    for (int piece = 0; piece < PIECES; ++piece) sum += n.parts[blockIdx.y * PIECES + piece];
    const float norm = __fadd_rn((float)sqrt(sum), n.eps);
    EACH(i, n.count) x[i] = __fdiv_rn(x[i], norm);
}

struct Combination {
    float *x;       // which is overwritten
    const float *y;
    size_t count;
    float of_x, of_y;
};

// x = of_y y + of_x x
extern "C" __global__ void muon_combine(const Combination c) {
    EACH(i, c.count) {
        c.x[i] = __fadd_rn(__fmul_rn(c.of_y, c.y[i]), __fmul_rn(c.of_x, c.x[i]));
    }
}
