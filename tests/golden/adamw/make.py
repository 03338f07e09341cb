"""Golden numbers of AdamW: torch.optim.AdamW and clip_grad_norm_ on given parameters and gradients.

Writes adamw.json beside this file. Made with Python 3.11, PyTorch 2.11.0, NumPy 2.4.6, on the CPU (x86-64):

    python -m venv venv
    venv/bin/pip install torch==2.11.0 numpy==2.4.6
    venv/bin/python make.py

Parameters and gradients are multiples of 2^-20 drawn with seed 20240517, so that float32 and float64 start
from the same numbers and the file holds them exactly. Every run makes STEPS updates with the single-tensor
form (foreach=False), weights decayed and biases and gains not, at a learning rate that warms up and falls,
with and without clipping of the global norm. The results are stored after steps in RECORDED, in float64
("f64", what the tests compare with) and in float32 ("f32", to see how far PyTorch itself is from it).
"""

import json
import pathlib

import numpy as np
import torch

SEED = 20240517
STEPS = 20
RECORDED = [1, 2, 10, 20]
# Name, shape, whether it decays.
PARAMETERS = [
    ("table", (7, 3), True),
    ("blocks.0.weight", (5, 3), True),
    ("blocks.0.bias", (5,), False),
    ("blocks.1.weight", (5, 3), True),
    ("blocks.1.bias", (5,), False),
    ("square", (3, 3), True),
    ("gain", (3,), False),
]
CASES = {
    "plain": {"betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.01, "clip": None},
    "clipped": {"betas": (0.9, 0.95), "eps": 1e-8, "weight_decay": 0.1, "clip": 1.0},
    "clipped_now_and_then": {"betas": (0.9, 0.999), "eps": 1e-6, "weight_decay": 0.1, "clip": 5.0},
}


def learning_rate(step):
    """Linear warm-up over 4 steps to 0.02, then linearly down; step counts from 1."""
    return 0.02 * min(step / 4, (STEPS + 1 - step) / (STEPS - 3))


def draw(rng, shape, scale):
    """Normal numbers rounded to multiples of 2^-20."""
    return np.round(rng.standard_normal(shape) * scale * 2**20) / 2**20


def gradients(rng):
    """One list of gradients per step. Magnitudes vary, so that some norms are below a limit of 5."""
    steps = []
    for step in range(STEPS):
        scale = 0.05 if step % 5 == 4 else 1.0
        grads = [draw(rng, shape, scale) for _, shape, _ in PARAMETERS]
        # A parameter without gradient for a while, as a layer whose gate is at 0.
        if step < 3:
            grads[3][:] = 0.0
            grads[4][:] = 0.0
        steps.append(grads)
    return steps


def replay(case, initial, grads, dtype):
    """The norms before clipping and the recorded parameters and moments of one run."""
    tensors = [torch.nn.Parameter(torch.tensor(p, dtype=dtype)) for p in initial]
    decays = [decays for _, _, decays in PARAMETERS]
    groups = [
        {"params": [t for t, d in zip(tensors, decays) if d], "weight_decay": case["weight_decay"]},
        {"params": [t for t, d in zip(tensors, decays) if not d], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=1.0, betas=case["betas"], eps=case["eps"], foreach=False)
    norms, recorded = [], {}
    for step in range(1, STEPS + 1):
        for tensor, grad in zip(tensors, grads[step - 1]):
            tensor.grad = torch.tensor(grad, dtype=dtype)
        # An infinite limit leaves the gradient as it is and gives the norm.
        limit = float("inf") if case["clip"] is None else case["clip"]
        norms.append(torch.nn.utils.clip_grad_norm_(tensors, limit, foreach=False).item())
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step)
        optimizer.step()
        if step in RECORDED:
            states = [optimizer.state[tensor] for tensor in tensors]
            recorded[str(step)] = {
                "parameters": [t.detach().flatten().tolist() for t in tensors],
                "first": [s["exp_avg"].flatten().tolist() for s in states],
                "second": [s["exp_avg_sq"].flatten().tolist() for s in states],
            }
    return {"norms": norms, "after": recorded}


def main():
    torch.set_num_threads(1)
    rng = np.random.default_rng(SEED)
    initial = [draw(rng, shape, 0.5) for _, shape, _ in PARAMETERS]
    grads = gradients(rng)
    golden = {
        "made_with": {"torch": torch.__version__, "numpy": np.__version__, "seed": SEED},
        "parameters": [
            {"name": name, "shape": shape, "decays": decays, "values": values.flatten().tolist()}
            for (name, shape, decays), values in zip(PARAMETERS, initial)
        ],
        "learning_rates": [learning_rate(step) for step in range(1, STEPS + 1)],
        "gradients": [[g.flatten().tolist() for g in step] for step in grads],
        "cases": {
            name: case
            | {dtype: replay(case, initial, grads, getattr(torch, long)) for dtype, long in
               (("f64", "float64"), ("f32", "float32"))}
            for name, case in CASES.items()
        },
    }
    text = json.dumps(golden, separators=(",", ":"))
    # One step or record a line keeps differences readable.
    for key in ('"parameters":', '"gradients":', '"after":', '"f64":', '"f32":', '"first":', '"second":'):
        text = text.replace(key, "\n" + key)
    pathlib.Path(__file__).with_name("adamw.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
