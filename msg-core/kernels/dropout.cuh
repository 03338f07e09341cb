// The factors of dropout: the twin of src/ops/dropout.rs.
#pragma once
#include "element.cuh"
#include "random.cuh"

struct Dropout {
    Key key;
    float rate; // 0: nothing is dropped
    float kept; // what an entry that stays is multiplied by
};

__device__ __forceinline__ float factor_of(const Dropout &dropout, unsigned int bits) {
    return uniform(bits) < dropout.rate ? 0.0f : dropout.kept;
}

__device__ __forceinline__ float factor_at(const Dropout &dropout, unsigned int c0, unsigned int c1, unsigned int c2,
                                           unsigned int c3) {
    return dropout.rate == 0.0f ? 1.0f : factor_of(dropout, bits_at(dropout.key, c0, c1, c2, c3));
}

// Of N neighbours from `column` on, in the row (0, sequence, place).
template <int N>
__device__ __forceinline__ Vec<N> factors_at(const Dropout &dropout, unsigned int sequence, unsigned int place,
                                                    unsigned int column) {
    if (dropout.rate == 0.0f) return all<N>(1.0f);
    if constexpr (N == 4) {
        const Words x = words_at(dropout.key, 0, sequence, place, column / 4);
        return {{factor_of(dropout, x.word[0]), factor_of(dropout, x.word[1]), factor_of(dropout, x.word[2]),
                 factor_of(dropout, x.word[3])}};
    } else {
        return {{factor_at(dropout, 0, sequence, place, column)}};
    }
}
