#!/usr/bin/env python3
"""Compiles every kernel with NVIDIA's compiler and shows what each takes: registers, shared memory, spills.

usage: check.py TOOLKIT [ARCHITECTURE...]; TOOLKIT is what CUDA_PATH would name, architectures are 80 and 90 where
none is given. Fails where a kernel does not compile or spills registers to memory. A stack without spills holds
arrays that are indexed by what only runs know. Flags are those of msg-core/build.rs.
"""

import pathlib
import re
import subprocess
import sys
import tempfile

CORE = pathlib.Path(__file__).resolve().parents[2] / "msg-core"


def flags():
    """The compiler's arguments in build.rs, without the output kind."""
    found = re.search(r'\.args\(\[("--ptx"[^\]]*)\]\)', (CORE / "build.rs").read_text())
    if not found:
        sys.exit("msg-core/build.rs no longer says how kernels are compiled in the way that is looked for here")
    return [flag for flag in re.findall(r'"([^"]*)"', found.group(1)) if flag != "--ptx"]


def compile_kernels(nvcc, source, architecture, folder):
    """The text that ptxas prints about the kernels of one file."""
    target = folder / f"{source.stem}.{architecture}.cubin"
    command = [nvcc, "--cubin", *flags(), f"--gpu-architecture=sm_{architecture}", f"-I{CORE / 'kernels'}"]
    command += ["-Xptxas", "-v"]
    done = subprocess.run([*command, "-o", target, source], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{source.name} for sm_{architecture}:\n{done.stdout}{done.stderr}")
    return done.stderr


def number(pattern, text):
    found = re.search(pattern, text)
    return int(found.group(1)) if found else 0


def uses(text):
    """Kernel's name, registers, static shared memory, stack, spilled bytes for each in what ptxas printed."""
    for part in text.split("Compiling entry function ")[1:]:
        name = part.split("'")[1]
        registers = number(r"Used (\d+) registers", part)
        if not registers:
            sys.exit(f"ptxas says nothing of the registers of {name}:\n{text}")
        spilled = number(r"(\d+) bytes spill stores", part) + number(r"(\d+) bytes spill loads", part)
        yield name, registers, number(r"(\d+) bytes smem", part), number(r"(\d+) bytes stack frame", part), spilled


def main(toolkit, architectures):
    nvcc = pathlib.Path(toolkit) / "bin" / "nvcc"
    kernels, bad = {}, []
    with tempfile.TemporaryDirectory() as folder:
        for source in sorted((CORE / "src").rglob("*.cu")):
            for architecture in architectures:
                for name, *use in uses(compile_kernels(nvcc, source, architecture, pathlib.Path(folder))):
                    kernels.setdefault((source.stem, name), {})[architecture] = use
                    if use[3]:
                        bad.append(f"{name} on sm_{architecture}")
    head = " ".join(f"{word:>7}" for word in ("regs", "shared", "stack", "spilled"))
    print(f"{'':12} {'':36}" + "".join(f" | {'sm_' + architecture:31}" for architecture in architectures))
    print(f"{'file':12} {'kernel':36}" + f" | {head}" * len(architectures))
    for (file, name), by_architecture in kernels.items():
        rows = (by_architecture[architecture] for architecture in architectures)
        columns = "".join(" | " + " ".join(f"{value:7}" for value in row) for row in rows)
        print(f"{file:12} {name:36}{columns}")
    if not kernels:
        sys.exit("there are no kernels")
    if bad:
        sys.exit("registers spilled in " + ", ".join(bad))


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main(sys.argv[1], sys.argv[2:] or ["80", "90"])
