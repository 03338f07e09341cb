// The factors of dropout as a tensor: the twin of src/ops/dropout/mod.rs.
//
// Floor: 4 bytes written for each entry.
#include "dropout.cuh"

// The factors of dropout for a tensor of four axes, row by row.
struct Factors {
    Dropout dropout;
    float *to;
    unsigned int size[4];
};

extern "C" __global__ void dropout_factors(const Factors p) {
    const size_t rows = (size_t)p.size[0] * p.size[1] * p.size[2];
    for (size_t row = blockIdx.x; row < rows; row += gridDim.x) {
        const unsigned int c2 = (unsigned int)(row % p.size[2]);
        const size_t lead = row / p.size[2];
        const unsigned int c1 = (unsigned int)(lead % p.size[1]), c0 = (unsigned int)(lead / p.size[1]);
        for (size_t at = (size_t)blockIdx.y * blockDim.x + threadIdx.x; at < p.size[3];
             at += (size_t)gridDim.y * blockDim.x)
            p.to[row * p.size[3] + at] = factor_at(p.dropout, c0, c1, c2, (unsigned int)at);
    }
}
