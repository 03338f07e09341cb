// f32 values as an element stores them.
//
// Floor, in bytes an entry (E: 4 or 2): 4 + E.
#include "element.cuh"

// y = x rounded, for `count` entries.
template <class E> struct Cast {
    const float *x;
    E *y;
    size_t count;
};

template <class E, int N> __device__ void cast(const Cast<E> &p) {
    const size_t step = (size_t)gridDim.x * blockDim.x * N;
    for (size_t at = ((size_t)blockIdx.x * blockDim.x + threadIdx.x) * N; at < p.count; at += step)
        store(p.y + at, load<N>(p.x + at));
}

FOR_ELEMENTS(cast, Cast)
