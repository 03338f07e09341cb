// One AdamW update of one tensor: the twin of src/optim/adamw_cpu.rs.
//
// The same float operations in the same order, none contracted, so that the bits are those of the Cpu.
// Results go to buffers of their own: the old ones may be shared with other tensors. An update that the
// verdict forbids copies them.

struct Buffers {
    const float *old_value, *grad, *old_first, *old_second;
    float *value, *first, *second;
};

// As kernels/guard.cu left it.
struct Verdict {
    double square, grad_scale, applied;
};

struct Numbers {
    float first_share, beta2, second_share, eps, weight_decay;
};

struct Cohort {
    float lr, step_size, root_correction;
};

__device__ __forceinline__ void update(const Buffers &b, size_t i, const Verdict &verdict, const Numbers &n,
                                       const Cohort &c) {
    float p = b.old_value[i], m = b.old_first[i], v = b.old_second[i];
    if (verdict.applied != 0.0) {
        const float g = __fmul_rn(b.grad[i], (float)verdict.grad_scale);
        p = __fsub_rn(p, __fmul_rn(p, __fmul_rn(c.lr, n.weight_decay)));
        m = __fadd_rn(m, __fmul_rn(__fsub_rn(g, m), n.first_share));
        v = __fadd_rn(__fmul_rn(v, n.beta2), __fmul_rn(__fmul_rn(g, g), n.second_share));
        const float root = __fadd_rn(__fdiv_rn(__fsqrt_rn(v), c.root_correction), n.eps);
        p = __fsub_rn(p, __fdiv_rn(__fmul_rn(c.step_size, m), root));
    }
    b.value[i] = p;
    b.first[i] = m;
    b.second[i] = v;
}

// All entries belong to one cohort.
extern "C" __global__ void adamw_one_cohort(const Buffers buffers, const Verdict *guard, const Numbers numbers,
                                            const Cohort cohort, const size_t count) {
    const Verdict verdict = *guard;
    for (size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x; i < count; i += (size_t)gridDim.x * blockDim.x)
        update(buffers, i, verdict, numbers, cohort);
}

#define NO_UNITS 0xFFFFFFFFu

struct Cohorts {
    unsigned int size[4];  // of the tensor, padded by leading axes of one unit
    unsigned int units[4]; // where the cohorts of the axis' units begin; NO_UNITS: all are in cohort 0
};

__device__ __forceinline__ unsigned int cohort_of(const Cohorts &cohorts, const unsigned int *units, int axis,
                                                  unsigned int unit) {
    const unsigned int begin = cohorts.units[axis];
    return begin == NO_UNITS ? 0 : units[begin + unit];
}

// An entry belongs to the latest cohort among its units'. One block works on one row at a time.
extern "C" __global__ void adamw_cohorts(const Buffers buffers, const Verdict *guard, const Numbers numbers,
                                         const Cohorts cohorts, const unsigned int *units,
                                         const Cohort *table) {
    const Verdict verdict = *guard;
    const size_t rows = (size_t)cohorts.size[0] * cohorts.size[1] * cohorts.size[2];
    const size_t width = cohorts.size[3];
    for (size_t row = blockIdx.x; row < rows; row += gridDim.x) {
        const size_t lead = row / cohorts.size[2];
        unsigned int row_cohort = cohort_of(cohorts, units, 2, (unsigned int)(row % cohorts.size[2]));
        row_cohort = max(row_cohort, cohort_of(cohorts, units, 1, (unsigned int)(lead % cohorts.size[1])));
        row_cohort = max(row_cohort, cohort_of(cohorts, units, 0, (unsigned int)(lead / cohorts.size[1])));
        for (size_t at = (size_t)blockIdx.y * blockDim.x + threadIdx.x; at < width;
             at += (size_t)gridDim.y * blockDim.x) {
            const unsigned int cohort = max(row_cohort, cohort_of(cohorts, units, 3, (unsigned int)at));
            update(buffers, row * width + at, verdict, numbers, table[cohort]);
        }
    }
}
