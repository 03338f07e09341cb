// The verdict on one update, which stays on the device: the twin of src/optim/verdict.rs.

struct Verdict {
    double square;     // sum of the squares of all gradients
    double grad_scale; // factor on the gradients; a float's value
    double applied;    // 1 where loss and norm are finite, else 0
};

// Infinity and NaN less themselves are NaN.
__device__ __forceinline__ bool is_finite(double x) { return x - x == 0.0; }

// One thread. `loss` may be null; `clip` is the largest norm, infinite for none.
extern "C" __global__ void judge(Verdict *verdict, const float *loss, const double clip) {
    const double norm = sqrt(verdict->square);
    const double factor = clip / (norm + 1e-6);
    verdict->grad_scale = (double)(float)(factor < 1.0 ? factor : 1.0);
    verdict->applied = is_finite(norm) && (!loss || is_finite((double)*loss)) ? 1.0 : 0.0;
}
