// The sum of embeddings, and back: the twin of cpu.rs beside it.
//
// Floor, in bytes an entry: forward reads 8 or 12 and writes 4; backward reads 4 of the gradient for each table and
// changes 8 of the rows that occur. H100 at 3.0 TB/s: 16,384 places of 768: 50 us each.
#include "element.cuh"

struct Lookup {
    const float *words, *segments, *positions;              // segments: null where there are none
    const unsigned long long *word_ids, *segment_ids, *position_ids;
    float *y;                                               // [places][width]
    unsigned int places, length, width;                     // position ids repeat after `length` places
};

// y = words[word] + segments[segment] + positions[position]; a thread has one column of one place at a time.
extern "C" __global__ void lookup(const Lookup p) {
    for (unsigned int place = blockIdx.x; place < p.places; place += gridDim.x) {
        const float *word = p.words + p.word_ids[place] * p.width;
        const float *position = p.positions + p.position_ids[place % p.length] * p.width;
        const float *segment = p.segments ? p.segments + p.segment_ids[place] * p.width : nullptr;
        float *y = p.y + (size_t)place * p.width;
        for (unsigned int at = threadIdx.x; at < p.width; at += blockDim.x) {
            const float sum = segment ? word[at] + segment[at] : word[at];
            y[at] = sum + position[at];
        }
    }
}

struct Scatter {
    const unsigned long long *ids;       // [count]
    const float *dy;                     // [places][width]; the place's id is that of place % count
    float *dtable;
    unsigned int count, places, width;
};

#define THREADS 256

// dtable[id] += the gradients of the places that took its row, in their order. One block for every id in the list;
// that of an id's first occurrence does the work, the others leave.
extern "C" __global__ void scatter(const Scatter p) {
    __shared__ unsigned int found[THREADS], waves[THREADS / 32];
    const unsigned long long id = p.ids[blockIdx.x];
    const unsigned int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    for (unsigned int begin = 0; begin < blockIdx.x; begin += THREADS) {
        const unsigned int at = begin + threadIdx.x;
        const bool earlier = at < blockIdx.x && p.ids[at] == id;
        const unsigned int votes = __ballot_sync(0xFFFFFFFFu, earlier);
        if (lane == 0) waves[warp] = votes;
        __syncthreads();
        unsigned int any = 0;
        for (unsigned int w = 0; w < THREADS / 32; w++) any |= waves[w];
        __syncthreads();
        if (any) return;
    }
    for (unsigned int begin = blockIdx.x; begin < p.count; begin += THREADS) {
        // The places of this piece that have the id, in order.
        const unsigned int at = begin + threadIdx.x;
        const bool mine = at < p.count && p.ids[at] == id;
        const unsigned int votes = __ballot_sync(0xFFFFFFFFu, mine);
        if (lane == 0) waves[warp] = __popc(votes);
        __syncthreads();
        unsigned int before = 0, total = 0;
        for (unsigned int w = 0; w < THREADS / 32; w++) {
            before += w < warp ? waves[w] : 0;
            total += waves[w];
        }
        if (mine) found[before + __popc(votes & ((1u << lane) - 1u))] = at;
        __syncthreads();
        for (unsigned int column = threadIdx.x; column < p.width; column += THREADS) {
            float sum = p.dtable[id * p.width + column];
            for (unsigned int i = 0; i < total; i++)
                for (size_t place = found[i]; place < p.places; place += p.count) sum += p.dy[place * p.width + column];
            p.dtable[id * p.width + column] = sum;
        }
        __syncthreads();
    }
}

// As scatter for a table of few rows: each block adds its share of the places; `column_totals` adds the shares.
struct ScatterFew {
    const unsigned long long *ids; // [places]
    const float *dy;
    float *parts;                  // [gridDim.y][width]
    unsigned int places, width;
    unsigned long long id;
};

extern "C" __global__ void scatter_few(const ScatterFew p) {
    const unsigned int column = blockIdx.x * blockDim.x + threadIdx.x;
    if (column >= p.width) return;
    const unsigned int share = (p.places + gridDim.y - 1) / gridDim.y;
    const unsigned int begin = blockIdx.y * share, end = min(p.places, begin + share);
    float sum = 0.0f;
    for (unsigned int place = begin; place < end; place++)
        if (p.ids[place] == p.id) sum += p.dy[(size_t)place * p.width + column];
    p.parts[(size_t)blockIdx.y * p.width + column] = sum;
}
