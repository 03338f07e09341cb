"""Training steps of this project and of PyTorch in turn, on the same machine in one run.

Prints for each case the median tokens per second of ours, of PyTorch eager and of PyTorch compiled, the ratio
of ours to the better of the two, and the peak resident memory of each process. Models of the same sizes on
random tokens: scaled_dot_product_attention, fused AdamW, clipping at 1, no dropout.

usage: peer.py BINARY [--rounds N] [--seconds S] [--dtype f32|bf16] [--cases NAME,...] [--no-compile]

On a GPU benches/gpu/measure.py uses the same models (`--serve CASE --device cuda`).
"""

import argparse
import math
import resource
import statistics
import subprocess
import sys
import time

CASES = {
    # name: family, layers, hidden, ffn, heads, vocab, length, batch
    "gpt-6x384": ("gpt", 6, 384, 1536, 6, 8192, 256, 8),
    "gpt2-124m": ("gpt", 12, 768, 3072, 12, 50257, 128, 4),
    "bert-first-stage": ("bert", 3, 512, 768, 8, 30522, 128, 16),
    "bert-base": ("bert", 12, 768, 3072, 12, 30522, 128, 16),
}
# Of a GPU.
GPU_CASES = {
    "gpt2-124m-b8": ("gpt", 12, 768, 3072, 12, 50257, 1024, 8),
    "gpt2-124m-b16": ("gpt", 12, 768, 3072, 12, 50257, 1024, 16),
    "bert-base-b64": ("bert", 12, 768, 3072, 12, 30522, 128, 64),
    "gpt-6x384": CASES["gpt-6x384"],
    # For a try where there is no GPU worth the name.
    "tiny-gpt": ("gpt", 2, 128, 192, 2, 97, 20, 2),
    "tiny-bert": ("bert", 2, 128, 192, 2, 97, 20, 2),
}
HEAD_DIM = 64
# Rounds that warm caches up and find out how long a step takes.
WARM_UP = 2
LABELLED_EVERY = 7


def serve(case, dtype, compiled, on="cpu"):
    """Answers lines on stdin with seconds, as the project's own binary does."""
    import torch
    from torch import nn
    from torch.nn import functional as F

    torch.set_num_threads(2)
    torch.manual_seed(1)
    family, layers, hidden, ffn, heads, vocab, length, batch = {**CASES, **GPU_CASES}[case]
    gpu = on == "cuda"
    # Rows of the tied table: a GPU's products are slower at 50257 than at 50304, and users of PyTorch know it.
    rows_of_table = -(-vocab // 64) * 64 if gpu else vocab
    causal = family == "gpt"
    inner = heads * HEAD_DIM

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            eps = 1e-5 if causal else 1e-12
            self.norms = nn.ModuleList([nn.LayerNorm(hidden, eps=eps) for _ in range(2)])
            self.qkv = nn.Linear(hidden, 3 * inner)
            self.output = nn.Linear(inner, hidden)
            self.up = nn.Linear(hidden, ffn)
            self.down = nn.Linear(ffn, hidden)

        def attend(self, x):
            rows, steps, _ = x.shape
            q, k, v = (
                part.view(rows, steps, heads, HEAD_DIM).transpose(1, 2)
                for part in self.qkv(x).split(inner, dim=2)
            )
            mixed = F.scaled_dot_product_attention(q, k, v, is_causal=causal)
            return self.output(mixed.transpose(1, 2).reshape(rows, steps, inner))

        def feed_forward(self, x):
            return self.down(F.gelu(self.up(x), approximate="tanh" if causal else "none"))

        def forward(self, x):
            if causal:
                x = x + self.attend(self.norms[0](x))
                return x + self.feed_forward(self.norms[1](x))
            x = self.norms[0](x + self.attend(x))
            return self.norms[1](x + self.feed_forward(x))

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.tokens = nn.Embedding(rows_of_table, hidden)
            self.positions = nn.Embedding(length, hidden)
            self.blocks = nn.ModuleList([Block() for _ in range(layers)])
            self.norm = nn.LayerNorm(hidden)
            if not causal:
                self.segments = nn.Embedding(2, hidden)
                self.pooler = nn.Linear(hidden, hidden)
                self.pair = nn.Linear(hidden, 2)
                self.transform = nn.Linear(hidden, hidden)
                self.transform_norm = nn.LayerNorm(hidden)
                self.bias = nn.Parameter(torch.zeros(rows_of_table))

        def forward(self, ids, segments, rows, labels, pairs):
            x = self.tokens(ids) + self.positions.weight
            if causal:
                for block in self.blocks:
                    x = block(x)
                logits = F.linear(self.norm(x), self.tokens.weight)
                return F.cross_entropy(logits.view(-1, rows_of_table).float(), labels)
            x = self.norm(x + self.segments(segments))
            for block in self.blocks:
                x = block(x)
            pair = F.cross_entropy(self.pair(torch.tanh(self.pooler(x[:, 0]))).float(), pairs)
            chosen = x.reshape(-1, hidden)[rows]
            chosen = self.transform_norm(F.gelu(self.transform(chosen)))
            logits = F.linear(chosen, self.tokens.weight, self.bias)
            return F.cross_entropy(logits.float(), labels) + pair

    model = Model().to(on)
    # As both models begin. PyTorch's own first embeddings are 50 times larger: the softmax over the tied table then
    # has subnormal shares, and a step in f32 takes several times as long.
    for parameter in model.parameters():
        if parameter.dim() > 1:
            nn.init.normal_(parameter, std=0.02)
    # So small that the one batch is not learnt by heart: the squares of vanishing gradients would be subnormal,
    # with which processors are slow.
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-7, weight_decay=0.01, fused=True)
    ids = torch.randint(vocab, (batch, length))
    segments = (torch.arange(length) > length // 2).long().expand(batch, length)
    rows = torch.arange(0, batch * length, LABELLED_EVERY)
    labels = torch.randint(vocab, (batch * length,)) if causal else torch.randint(vocab, (len(rows),))
    pairs = torch.arange(batch) % 2
    host = (ids, segments, rows, labels, pairs)
    if gpu:
        host = tuple(part.contiguous().pin_memory() for part in host)
    run = torch.compile(model) if compiled else model

    def step():
        batch = [part.to(on, non_blocking=True) for part in host]
        with torch.autocast(on, dtype=torch.bfloat16, enabled=dtype == "bf16"):
            loss = run(*batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        # As ours: on a GPU the loss is read at the end of a round only.
        return loss.detach() if gpu else loss.item()

    step()
    print("loss", float(step()), flush=True)
    for line in sys.stdin:
        start = time.perf_counter()
        for _ in range(int(line)):
            loss = step()
        float(loss)
        if gpu:
            torch.cuda.synchronize()
        print(time.perf_counter() - start, flush=True)
    print("peak", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, flush=True)


class Runner:
    def __init__(self, command, env=None):
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=env)
        self.seconds = []
        line = self.process.stdout.readline()
        if not line.startswith("loss"):
            raise SystemExit(f"{command}: did not start")

    def round(self, seconds, pause=0.5):
        """Steps for at least so many seconds. The pause lets another process's threads stop spinning."""
        time.sleep(pause)
        steps = max(1, math.ceil(seconds / self.seconds[-1])) if self.seconds else 1
        self.process.stdin.write(f"{steps}\n")
        self.process.stdin.flush()
        self.seconds.append(float(self.process.stdout.readline()) / steps)

    def finish(self):
        self.process.stdin.close()
        return int(self.process.stdout.readline().split()[1])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("binary")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--dtype", choices=["f32", "bf16"], default="f32")
    parser.add_argument("--seconds", type=float, default=1.0, help="of steps in each round")
    parser.add_argument("--cases", default=",".join(CASES))
    parser.add_argument("--no-compile", action="store_true")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    parser.add_argument("--compiled", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        return serve(args.serve, args.dtype, args.compiled, args.device)

    print(f"{'case':18} {'ours':>9} {'ramping':>9} {'eager':>9} {'compiled':>9} {'ratio':>6}  peak MB: ours, eager, compiled")
    for case in args.cases.split(","):
        sizes = [str(size) for size in CASES[case]]
        tokens = CASES[case][6] * CASES[case][7]
        peer = [sys.executable, __file__, args.binary, "--serve", case, "--dtype", args.dtype]
        ours = [args.binary, *sizes] + (["bf16"] if args.dtype == "bf16" else [])
        commands = {"ours": ours, "ramping": [*ours, "ramp"], "eager": peer}
        if not args.no_compile:
            commands["compiled"] = [*peer, "--compiled"]
        seconds, peaks = {name: [] for name in commands}, {}
        # Processes that begin later can be a quarter faster than the same ones that begin first (where their memory
        # lies, it seems): so once in this order and once in the other.
        for order in [list(commands), list(commands)[::-1]]:
            runners = {name: Runner(commands[name]) for name in order}
            for _ in range(args.rounds + WARM_UP):
                for runner in runners.values():
                    runner.round(args.seconds)
            for name, runner in runners.items():
                seconds[name] += runner.seconds[WARM_UP:]
                peaks[name] = runner.finish() >> 20
        rates = {name: tokens / statistics.median(all_of) for name, all_of in seconds.items()}
        best = max(rates["eager"], rates.get("compiled", 0.0))
        shown = " ".join(f"{rates.get(name, 0.0):9.0f}" for name in ("ours", "ramping", "eager", "compiled"))
        memory = ", ".join(str(peaks[name]) for name in ("ours", "eager", "compiled") if name in peaks)
        print(f"{case:18} {shown} {rates['ours'] / best:6.2f}  {memory}", flush=True)


if __name__ == "__main__":
    main()
