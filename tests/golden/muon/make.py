"""Golden numbers of Muon, written out in NumPy in float64: no framework, no code of this project.

Writes muon.json beside this file. Made with Python 3.11, NumPy 2.4.6, on the CPU (x86-64):

    python -m venv venv
    venv/bin/pip install numpy==2.4.6
    venv/bin/python make.py

The rule is Keller Jordan's (https://github.com/KellerJordan/Muon at 857d1ad, muon.py: `muon_update`,
`zeropower_via_newtonschulz5`, `SingleDeviceMuonWithAuxAdam`), in float64 throughout, with three additions of this
project: the gradient's global norm is clipped, state grows, and entries have ages (see `momentum_factors`).

Parameters and gradients are multiples of 2^-20 drawn with seed 20240711, so that float32 and float64 start from
the same numbers and the file holds them exactly. Every case makes BEFORE updates, a growth of three axes, and AFTER
updates more. The results are stored after steps in RECORDED.
"""

import json
import pathlib

import numpy as np

SEED = 20240711
BEFORE, AFTER = 5, 3
RECORDED = [1, 5, 8]
# Sizes of each axis before and after the growth; the others stay.
AXES = {"Vocab": (6, 6), "Hidden": (5, 7), "Ffn": (9, 12), "Inner": (6, 8), "Qkv": (3, 3)}
# Name, axes, kind. HiddenOut grows as Hidden.
PARAMETERS = [
    ("table", ["Vocab", "Hidden"], "table"),
    ("qkv", ["Qkv", "Inner", "Hidden"], "matrix"),
    ("square", ["Hidden", "Hidden"], "matrix"),
    ("tall", ["Ffn", "Hidden"], "matrix"),
    ("tall_bias", ["Ffn"], "vector"),
    ("wide", ["Hidden", "Ffn"], "matrix"),
]
PUBLISHED = {"momentum": 0.95, "weight_decay": 0.0, "betas": (0.9, 0.95), "eps": 1e-10, "rate_ratio": 3e-4 / 0.02,
             "adamw_weight_decay": 0.0, "clip": None, "policy": "age"}
DECAYED = PUBLISHED | {"weight_decay": 0.1, "adamw_weight_decay": 0.1, "clip": 1.0}
CASES = {
    "published": PUBLISHED,
    "decayed_and_clipped": DECAYED,
    "inherit": DECAYED | {"policy": "inherit"},
    "reset": DECAYED | {"policy": "reset", "momentum": 0.9, "rate_ratio": 0.1},
}


def learning_rate(step):
    """Linear warm-up over 3 steps to 0.02, then linearly down; step counts from 1."""
    return 0.02 * min(step / 3, (BEFORE + AFTER + 1 - step) / (BEFORE + AFTER - 2))


def draw(rng, shape, scale):
    """Normal numbers rounded to multiples of 2^-20."""
    return np.round(rng.standard_normal(shape) * scale * 2**20) / 2**20


def shape(axes, grown):
    return tuple(AXES[axis][grown] for axis in axes)


def newton_schulz(g, steps=5):
    """The published quintic; a batch of matrices on the last two axes."""
    a, b, c = 3.4445, -4.7750, 2.0315
    tall = g.shape[-2] > g.shape[-1]
    x = np.swapaxes(g, -1, -2) if tall else g
    x = x / (np.sqrt((x * x).sum(axis=(-2, -1), keepdims=True)) + 1e-7)
    for _ in range(steps):
        gram = x @ np.swapaxes(x, -1, -2)
        x = a * x + (b * gram + c * gram @ gram) @ x
    return np.swapaxes(x, -1, -2) if tall else x


def births(axes, grown_at):
    """Each entry's birth: the latest of its units', in applied updates."""
    out = np.zeros(shape(axes, grown=True))
    for at, axis in enumerate(axes):
        old, new = AXES[axis]
        units = np.where(np.arange(new) < old, 0, grown_at)
        out = np.maximum(out, units.reshape([-1 if i == at else 1 for i in range(len(axes))]))
    return out


def momentum_factors(beta, ages):
    """Momentum begins at 0: after k updates it holds 1 - beta^k of what an old one holds. A young entry's is raised
    to the share that the oldest of its tensor have, so that a tensor that never grew follows the published rule."""
    return (1 - beta ** ages.max()) / (1 - beta**ages)


def replay(case, initial, fill, grads):
    """The norms before clipping, and parameters and state after the recorded steps of one run."""
    values = {name: v.copy() for name, v in initial.items()}
    slots = {name: {} for name in values}
    starts = {name: np.zeros_like(v) for name, v in values.items()}
    for name, axes, kind in PARAMETERS:
        for slot in ["momentum"] if kind == "matrix" else ["first_moment", "second_moment"]:
            slots[name][slot] = np.zeros_like(values[name])
    norms, recorded = [], {}
    for step in range(1, BEFORE + AFTER + 1):
        if step == BEFORE + 1:
            for name, axes, _ in PARAMETERS:
                corner = tuple(slice(0, n) for n in values[name].shape)
                grown = fill[name].copy()
                grown[corner] = values[name]
                values[name] = grown
                for slot, old in slots[name].items():
                    new = np.zeros_like(grown)
                    if case["policy"] != "reset":
                        new[corner] = old
                    slots[name][slot] = new
                starts[name] = {
                    "age": births(axes, BEFORE),
                    "inherit": np.zeros_like(grown),
                    "reset": np.full_like(grown, BEFORE),
                }[case["policy"]]
        step_grads = grads[step - 1]
        norm = np.sqrt(sum((g * g).sum() for g in step_grads.values()))
        norms.append(norm)
        scale = 1.0 if case["clip"] is None else min(1.0, case["clip"] / (norm + 1e-6))
        lr = learning_rate(step)
        for name, axes, kind in PARAMETERS:
            p, g, state, ages = values[name], step_grads[name] * scale, slots[name], step - starts[name]
            if kind == "matrix":
                beta = case["momentum"]
                m = state["momentum"]
                m += (1 - beta) * (g - m)
                update = (1 - beta) * g + beta * (momentum_factors(beta, ages) * m)
                update = newton_schulz(update)
                update = update * max(1, p.shape[-2] / p.shape[-1]) ** 0.5
                p *= 1 - lr * case["weight_decay"]
                p -= lr * update
            else:
                beta1, beta2 = case["betas"]
                rate = lr * case["rate_ratio"]
                first, second = state["first_moment"], state["second_moment"]
                first += (1 - beta1) * (g - first)
                second += (1 - beta2) * (g * g - second)
                if kind == "table":
                    p *= 1 - rate * case["adamw_weight_decay"]
                root = np.sqrt(second / (1 - beta2**ages)) + case["eps"]
                p -= rate * (first / (1 - beta1**ages)) / root
        if step in RECORDED:
            recorded[str(step)] = {
                "parameters": flat(values),
                **{slot: flat({n: s[slot] for n, s in slots.items() if slot in s})
                   for slot in ["momentum", "first_moment", "second_moment"]},
            }
    return {"norms": norms, "after": recorded}


def flat(values):
    return {name: v.flatten().tolist() for name, v in values.items()}


def main():
    rng = np.random.default_rng(SEED)
    each = lambda grown, scale: {n: draw(rng, shape(axes, grown), scale) for n, axes, _ in PARAMETERS}
    initial, fill = each(False, 0.5), each(True, 0.5)
    # Magnitudes vary, so that some norms are below the limit.
    grads = [each(step >= BEFORE, 0.02 if step % 3 == 2 else 1.0) for step in range(BEFORE + AFTER)]
    golden = {
        "made_with": {"numpy": np.__version__, "seed": SEED},
        "axes": AXES,
        "growth_after": BEFORE,
        "parameters": flat(initial),
        "fill": flat(fill),
        "learning_rates": [learning_rate(step) for step in range(1, BEFORE + AFTER + 1)],
        "gradients": [flat(step) for step in grads],
        "cases": {name: case | replay(case, initial, fill, grads) for name, case in CASES.items()},
    }
    text = json.dumps(golden, separators=(",", ":"))
    # One step or record a line keeps differences readable.
    for key in ('"parameters":', '"fill":', '"gradients":', '"after":', '"momentum":{', '"first_moment":',
                '"second_moment":'):
        text = text.replace(key, "\n" + key)
    pathlib.Path(__file__).with_name("muon.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
