#!/usr/bin/env python3
"""What this project does on a GPU, in one table: the CUDA tests on the real device, each operation against ceilings
measured in the same run, and whole training steps against PyTorch's in turn.

usage: measure.py --bin FOLDER [--only tests,kernels,steps] [--rounds N] [--seconds S] [--budget S] [--tiny]

run.sh of the pack calls it. Everything stays within the budget (default 570 s): what would not is named as left out.
With `--tiny` sizes are so small that the CUDA emulator gets through; PyTorch then runs on the CPU, and figures mean
nothing.
"""

import argparse
import json
import pathlib
import re
import statistics
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
# Beside this file in the pack, in its own folder in the repository.
sys.path[:0] = [str(HERE), str(HERE.parent / "side_by_side")]
import peer  # noqa: E402

BEGIN = time.monotonic()
# What runs the tests: program, and the filter on their names.
TESTS = [("msg_core", "device::"), ("cuda", "cuda")]
# Case of peer.py, dtype.
STEPS = [("gpt2-124m-b8", "bf16"), ("bert-base-b64", "bf16"), ("gpt2-124m-b16", "bf16"), ("gpt-6x384", "f32")]
TINY_STEPS = [("tiny-gpt", "bf16"), ("tiny-bert", "f32")]
# Seconds that a case of steps takes at most: three processes, one of which compiles, and the rounds.
CASE = 110


def elapsed():
    return time.monotonic() - BEGIN


def said(command):
    """What a command prints, or None where there is none of its name."""
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=60).stdout.strip()
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return None


def machine():
    gpu = said(["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"])
    print(f"GPU, driver, memory: {gpu or 'nvidia-smi says nothing'}")
    revision = HERE / "revision"
    print(f"revision: {revision.read_text().strip() if revision.exists() else 'of the working tree'}")
    try:
        import torch

        print(f"PyTorch {torch.__version__}, CUDA {torch.version.cuda}", flush=True)
        return torch
    except ImportError:
        print("PyTorch: there is none", flush=True)
        return None


def tests(folder, limit):
    """Runs the tests; True where all pass."""
    print(f"\n== tests on the device (at {elapsed():.0f} s)", flush=True)
    right = True
    for program, names in TESTS:
        try:
            done = subprocess.run([folder / program, names], capture_output=True, text=True, timeout=limit)
        except subprocess.TimeoutExpired:
            print(f"{program}: more than {limit:.0f} s")
            right = False
            continue
        result = re.search(r"test result: .*", done.stdout)
        passed = re.search(r"ok\. ([1-9]\d*) passed; 0 failed", done.stdout)
        print(f"{program}: {result.group(0) if result else f'exit status {done.returncode}'}", flush=True)
        if done.returncode or not passed:
            right = False
            print((done.stdout + done.stderr)[-4000:], flush=True)
    return right


def ceilings(torch):
    """Bytes per second of a copy, FLOP/s of products in bf16 and in f32 without TF32: medians."""

    def rate(work, run, tries=20):
        for _ in range(3):
            run()
        times = []
        for _ in range(tries):
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            begin.record()
            run()
            end.record()
            end.synchronize()
            times.append(begin.elapsed_time(end) / 1e3)
        return work / statistics.median(times)

    source = torch.empty(1 << 28, dtype=torch.float32, device="cuda").normal_()
    target = torch.empty_like(source)
    found = {"copy": rate(2 * source.nbytes, lambda: target.copy_(source))}
    del source, target
    for name, dtype, n in [("bf16", torch.bfloat16, 8192), ("f32", torch.float32, 4096)]:
        a, b = (torch.randn(n, n, device="cuda", dtype=dtype) for _ in range(2))
        out = torch.empty_like(a)
        found[name] = rate(2 * n**3, lambda: torch.matmul(a, b, out=out))
    torch.cuda.empty_cache()
    print(f"\nceilings: copy {found['copy'] / 1e9:.0f} GB/s read and written, cuBLAS product "
          f"{found['bf16'] / 1e12:.0f} TFLOP/s in bf16, {found['f32'] / 1e12:.1f} in f32", flush=True)
    return found


def kernels(folder, ceiling, tiny, limit):
    """A line for each operation: time, rate, and the share of its floor, the least time by the ceilings."""
    print(f"\n== operations (at {elapsed():.0f} s)")
    print(f"{'operation':44} {'us':>10} {'GB/s':>8} {'TFLOP/s':>8} {'floor us':>9} {'floor/time':>10}", flush=True)
    command = [folder / "kernels", "cuda"] + (["tiny"] if tiny else [])
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit)
        output, failure = done.stdout, done.stderr if done.returncode else ""
    except subprocess.TimeoutExpired as expired:
        output, failure = (expired.stdout or b"").decode(), f"kernels: more than {limit:.0f} s"
    for line in output.splitlines():
        try:
            it = json.loads(line)
        except ValueError:
            continue
        # A time of 0 is one that drowned in what was taken off.
        seconds = it["seconds"] or float("nan")
        floor = float("nan")
        if ceiling:
            products = ceiling["bf16" if "bf16" in it["name"] else "f32"]
            floor = max(it["bytes"] / ceiling["copy"], it["flops"] / products)
        print(f"{it['name']:44} {seconds * 1e6:10.1f} {it['bytes'] / seconds / 1e9:8.0f} "
              f"{it['flops'] / seconds / 1e12:8.1f} {floor * 1e6:9.1f} {floor / seconds:10.2f}", flush=True)
    if failure:
        print(failure[-2000:], flush=True)
    return not failure and bool(output)


def used():
    """MiB of device memory in use by all processes; None where nothing says so."""
    text = said(["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits", "--id=0"])
    return int(text) if text and text.isdigit() else None


class Runner(peer.Runner):
    """A process that makes steps, with the device memory that it has taken after some."""

    def __init__(self, command, seconds):
        before = used()
        super().__init__(command)
        self.round(seconds, pause=0)
        after = used()
        self.memory = None if before is None or after is None else after - before
        self.seconds.clear()
        self.flops = None

    def finish(self):
        self.process.stdin.close()
        words = self.process.stdout.readline().split()
        self.process.wait()
        if "flops" in words:
            self.flops = float(words[words.index("flops") + 1])


def steps(folder, ceiling, args, torch):
    """A line for each case: tokens per second of ours, in a ramp, and of PyTorch, in turn; medians."""
    print(f"\n== training steps (at {elapsed():.0f} s), {args.rounds} rounds of {args.seconds} s in turn: tokens/s")
    print(f"{'case':20} {'ours':>9} {'ramping':>9} {'eager':>9} {'compiled':>9} {'ratio':>6} {'of peak':>8}  "
          "MiB on the device: ours, eager, compiled", flush=True)
    right = True
    for case, dtype in TINY_STEPS if args.tiny else STEPS:
        name = f"{case} {dtype}"
        if elapsed() + CASE > args.budget:
            print(f"{name:20} left out: {elapsed():.0f} s are gone", flush=True)
            continue
        sizes = peer.GPU_CASES[case]
        ours = [folder / "training_step", *map(str, sizes), "cuda"] + (["bf16"] if dtype == "bf16" else [])
        serve = [sys.executable, peer.__file__, "-", "--serve", case, "--dtype", dtype]
        serve += ["--device", "cpu" if args.tiny else "cuda"]
        commands = {"ours": ours, "ramping": [*ours, "ramp"]}
        if torch:
            commands |= {"eager": serve, "compiled": [*serve, "--compiled"]}
        runners = {}
        for which, command in commands.items():
            try:
                runners[which] = Runner(command, args.seconds)
            except (SystemExit, IndexError, ValueError) as failure:
                print(f"{name:20} {which} did not start: {failure}", flush=True)
                right = False
        for which, runner in [*runners.items()] * (args.rounds + 1):
            try:
                runner.round(args.seconds, pause=0.05)
            except (OSError, ValueError) as failure:
                print(f"{name:20} {which} stopped: {failure}", flush=True)
                return False
        tokens = sizes[6] * sizes[7]
        # The first round finds out how long a step takes.
        rates = {which: tokens / statistics.median(runner.seconds[1:]) for which, runner in runners.items()}
        for runner in runners.values():
            runner.finish()
        best = max((rates.get(which, 0.0) for which in ("eager", "compiled")), default=0.0)
        ratio = f"{rates['ours'] / best:6.2f}" if best and "ours" in rates else f"{'-':>6}"
        share = f"{'-':>8}"
        if ceiling and "ours" in runners and runners["ours"].flops:
            share = f"{runners['ours'].flops * rates['ours'] / tokens / ceiling[dtype]:8.1%}"
        shown = " ".join(f"{rates.get(which, 0.0):9.0f}" for which in ("ours", "ramping", "eager", "compiled"))
        memory = ", ".join(str(runners[w].memory) for w in ("ours", "eager", "compiled") if w in runners)
        print(f"{name:20} {shown} {ratio} {share}  {memory}", flush=True)
    return right


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", type=pathlib.Path, required=True)
    parser.add_argument("--only", default="tests,kernels,steps")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=0.5, help="of steps in each round")
    parser.add_argument("--budget", type=float, default=570)
    parser.add_argument("--tiny", action="store_true")
    args = parser.parse_args()
    parts = args.only.split(",")
    torch = machine()
    right = True
    if "tests" in parts:
        right &= tests(args.bin, limit=min(150, args.budget))
    ceiling = ceilings(torch) if torch and torch.cuda.is_available() else None
    if "kernels" in parts:
        right &= kernels(args.bin, ceiling, args.tiny, limit=min(100, args.budget - elapsed()))
    if "steps" in parts:
        right &= steps(args.bin, ceiling, args, torch)
    print(f"\n{'all parts ran' if right else 'SOME PARTS FAILED'}, {elapsed():.0f} s in all")
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(main())
