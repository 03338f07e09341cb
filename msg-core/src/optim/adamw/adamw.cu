// One AdamW update of all tensors of a module: the twin of cpu.rs beside it.
//
// The same float operations in the same order, none contracted, so that the bits are those of the Cpu.
// Moments are changed in place. A parameter's old values are read from a copy (cuda.rs
// says why); an update that is not applied puts them back and leaves the moments alone.
// Floor: 16 bytes read and 12 written for each entry; H100 at 3.0 TB/s, 124 M entries: 1.2 ms.

struct Tensor {
    // Each begins on a boundary of 16 bytes.
    float *value, *first, *second;
    const float *grad, *saved;
    size_t count;
    size_t piece;            // how many pieces the tensors before it have
    unsigned int size[4];    // padded by leading axes of one unit
    unsigned int units[4];   // where the age groups of the axis' units begin; NO_UNITS: all are in age group 0
    unsigned int groups;     // where its age groups begin
    float first_share, beta2, second_share, eps, weight_decay;
};

#define NO_UNITS 0xFFFFFFFFu
#define PIECE 4096

// As status/status.cu left it.
struct UpdateStatus {
    double square, grad_scale, applied, loss;
};

struct AgeGroup {
    float lr, step_size, root_correction;
};

__device__ __forceinline__ void update(const Tensor &t, const AgeGroup &c, float scale, float grad, float &p,
                                       float &m, float &v) {
    const float g = __fmul_rn(grad, scale);
    p = __fsub_rn(p, __fmul_rn(p, __fmul_rn(c.lr, t.weight_decay)));
    m = __fadd_rn(m, __fmul_rn(__fsub_rn(g, m), t.first_share));
    v = __fadd_rn(__fmul_rn(v, t.beta2), __fmul_rn(__fmul_rn(g, g), t.second_share));
    const float root = __fadd_rn(__fdiv_rn(__fsqrt_rn(v), c.root_correction), t.eps);
    p = __fsub_rn(p, __fdiv_rn(__fmul_rn(c.step_size, m), root));
}

__device__ __forceinline__ void update_at(const Tensor &t, const AgeGroup &c, float scale, size_t i) {
    float p = t.saved[i], m = t.first[i], v = t.second[i];
    update(t, c, scale, t.grad[i], p, m, v);
    t.value[i] = p;
    t.first[i] = m;
    t.second[i] = v;
}

// The tensor of a block's piece.
__device__ __forceinline__ const Tensor &tensor_of(const Tensor *tensors, unsigned int count) {
    unsigned int at = 0, after = count;
    while (after - at > 1) {
        const unsigned int middle = at + (after - at) / 2;
        if (tensors[middle].piece <= blockIdx.x) at = middle;
        else after = middle;
    }
    return tensors[at];
}

__device__ __forceinline__ void put_back(const Tensor &t, size_t begin, size_t end) {
    for (size_t i = begin + threadIdx.x; i < end; i += blockDim.x) t.value[i] = t.saved[i];
}

// Tensors whose entries all belong to one age group. One block a piece.
extern "C" __global__ void adamw_one_group(const Tensor *tensors, const unsigned int count, const UpdateStatus *status,
                                           const AgeGroup *groups) {
    const Tensor t = tensor_of(tensors, count);
    const AgeGroup c = groups[t.groups];
    const size_t begin = (blockIdx.x - t.piece) * PIECE;
    const size_t end = begin + PIECE < t.count ? begin + PIECE : t.count;
    if (status->applied == 0.0) return put_back(t, begin, end);
    const float scale = (float)status->grad_scale;
    for (size_t i = begin + 4 * threadIdx.x; i + 4 <= end; i += 4 * blockDim.x) {
        const float4 g = *(const float4 *)(t.grad + i);
        float4 p = *(const float4 *)(t.saved + i), m = *(float4 *)(t.first + i), v = *(float4 *)(t.second + i);
        update(t, c, scale, g.x, p.x, m.x, v.x);
        update(t, c, scale, g.y, p.y, m.y, v.y);
        update(t, c, scale, g.z, p.z, m.z, v.z);
        update(t, c, scale, g.w, p.w, m.w, v.w);
        *(float4 *)(t.value + i) = p;
        *(float4 *)(t.first + i) = m;
        *(float4 *)(t.second + i) = v;
    }
    // What is left over of fours.
    const size_t last = (end & ~(size_t)3) + threadIdx.x;
    if (last < end) update_at(t, c, scale, last);
}

__device__ __forceinline__ unsigned int group_of(const Tensor &t, const unsigned int *units, int axis,
                                                  unsigned int unit) {
    const unsigned int begin = t.units[axis];
    return begin == NO_UNITS ? 0 : units[begin + unit];
}

// Tensors of several age groups: an entry belongs to the latest among its units'. One block a piece.
extern "C" __global__ void adamw_groups(const Tensor *tensors, const unsigned int count, const UpdateStatus *status,
                                         const AgeGroup *groups, const unsigned int *units) {
    const Tensor t = tensor_of(tensors, count);
    const size_t begin = (blockIdx.x - t.piece) * PIECE;
    const size_t end = begin + PIECE < t.count ? begin + PIECE : t.count;
    if (status->applied == 0.0) return put_back(t, begin, end);
    const float scale = (float)status->grad_scale;
    const unsigned int width = t.size[3];
    // Rows are counted in 32 bits, which the host has checked.
    const unsigned int first_row = (unsigned int)(begin / width), skip = (unsigned int)(begin % width);
    for (size_t i = begin + threadIdx.x; i < end; i += blockDim.x) {
        const unsigned int past = skip + (unsigned int)(i - begin); // less than 2^32 + PIECE: see the host
        const unsigned int row = first_row + past / width, lead = row / t.size[2];
        unsigned int group = group_of(t, units, 3, past % width);
        group = max(group, group_of(t, units, 2, row % t.size[2]));
        group = max(group, group_of(t, units, 1, lead % t.size[1]));
        group = max(group, group_of(t, units, 0, lead / t.size[1]));
        update_at(t, groups[t.groups + group], scale, i);
    }
}
