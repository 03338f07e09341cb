// What the attention kernels share: the tensors, and what hides a score.
//
// Rows of `qkv` hold queries, keys and values, each with its heads side by side.
#pragma once
#include "dropout.cuh"
#include "warp.cuh"

template <class E> struct Attention {
    const E *qkv;         // [rows][3][heads * head_dim]
    E *attn_out;          // [rows][heads * head_dim]
    float *logsumexp;     // [batch][heads][length]: log of the sum of exponentials of a query's scores
    const E *dattn_out;   // backward
    float *deltas;        // backward, as logsumexp: inner products of attn_out and dattn_out
    E *dqkv;              // backward
    const float *padding; // [batch][length], added to the scores of a key; null: 0
    Dropout dropout;      // of the probabilities
    float scale;          // 1 / sqrt(head_dim)
    unsigned int batch, length, heads, head_dim;
    unsigned int causal;
};

// The tensors of one head of one sequence. `stride` is that of a row of qkv, a third of it that of attn_out.
template <class E> struct Head {
    const E *query, *key, *value, *attn_out, *dattn_out;
    E *out, *dquery, *dkey, *dvalue;
    float *logsumexp, *deltas;
    const float *padding;
    unsigned int inner, sequence, head;

    __device__ Head(const Attention<E> &p, unsigned int sequence, unsigned int head) : sequence(sequence), head(head) {
        inner = p.heads * p.head_dim;
        const size_t first = (size_t)sequence * p.length, column = (size_t)head * p.head_dim;
        query = p.qkv + first * 3 * inner + column;
        key = query + inner;
        value = key + inner;
        out = p.attn_out + first * inner + column;
        attn_out = out;
        dattn_out = p.dattn_out + first * inner + column;
        dquery = p.dqkv + first * 3 * inner + column;
        dkey = dquery + inner;
        dvalue = dkey + inner;
        const size_t rows = ((size_t)sequence * p.heads + head) * p.length;
        logsumexp = p.logsumexp + rows;
        deltas = p.deltas + rows;
        padding = p.padding ? p.padding + first : nullptr;
    }
};

// Whether a query looks at a key at all.
template <class E> __device__ __forceinline__ bool looks(const Attention<E> &p, unsigned int query, unsigned int key) {
    return key < p.length && query < p.length && !(p.causal && key > query);
}
