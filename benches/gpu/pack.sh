#!/usr/bin/env bash
# Builds the CUDA tests and benches with NVIDIA's compiler, and packs them with the scripts, for a machine with a GPU
# and without Rust or network. Needs no GPU itself: cargo, cc, python3 and PyPI.
#
# usage: pack.sh [OUT.tar.gz]; then, over there, `tar -xzf OUT.tar.gz && msg-gpu/run.sh`. dfdx remembers two absolute
# paths, of its headers and of CUDA's, so all is built in MSG_GPU_BUILD (default /tmp/msg-gpu) and run.sh lays both
# there again.
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
root="$(cd "$here/../.." && pwd)"
build="${MSG_GPU_BUILD:-/tmp/msg-gpu}"
out="$(realpath -m "${1:-msg-gpu.tar.gz}")"
architecture="${CUDA_COMPUTE_CAP:-90}"
cd "$root"

# NVIDIA's compiler, libraries to link with, and the nvidia-smi that dfdx's build script asks for the architecture.
"$root/tools/nvcc/fetch.sh" "$build/toolkit"
toolkit="$build/toolkit/nvidia/cu13"
cargo fetch --quiet
cudarc="$(cargo metadata --format-version 1 --features msg-benches/cuda |
    python3 -c 'import json, os, sys
packages = json.load(sys.stdin)["packages"]
print(next(os.path.dirname(p["manifest_path"]) for p in packages if p["name"] == "cudarc"))')"
"$root/tools/nvcc/stubs.py" "$cudarc" "$toolkit/lib/stubs"
mkdir -p "$build/shim"
printf '#!/bin/sh\necho compute_cap\necho %s.%s\n' "${architecture%?}" "${architecture: -1}" >"$build/shim/nvidia-smi"
chmod +x "$build/shim/nvidia-smi"

built() { # cargo's arguments; prints NAME=PATH of each program, and dfdx=PATH of its headers
    CUDA_PATH="$toolkit" CUDA_COMPUTE_CAP="$architecture" PATH="$build/shim:$toolkit/bin:$PATH" \
        CARGO_TARGET_DIR="$build/target" env -u NVCC cargo "$@" --release --message-format=json-render-diagnostics |
        python3 -c 'import json, sys
for message in map(json.loads, sys.stdin):
    if message["reason"] == "compiler-artifact" and message.get("executable"):
        print(message["target"]["name"] + "=" + message["executable"])
    if message["reason"] == "build-script-executed" and "dfdx" in message["package_id"]:
        print("dfdx=" + message["out_dir"])'
}

stage="$(mktemp -d)"
trap 'rm -rf "$stage"' EXIT
pack="$stage/msg-gpu"
features=(--no-default-features --features cuda)
mkdir -p "$pack/bin" "$pack/headers"
{
    # All packages both times, or dfdx would be built twice, with other features below it. No default features: nothing
    # here starts the command.
    built build -p msg-benches -p msg-core -p msg-tests "${features[@]}" --bin training_step --bin kernels
    built test -p msg-core -p msg-tests "${features[@]}" --lib --test cuda --no-run
} | sort -u >"$stage/built"
while IFS='=' read -r name path; do
    case "$name" in
    dfdx)
        mkdir -p "$pack/headers$path"
        cp "$path"/*.cuh "$pack/headers$path/"
        ;;
    training_step | kernels | cuda | msg_core)
        cp "$path" "$pack/bin/$name"
        strip "$pack/bin/$name"
        ;;
    esac
done <"$stage/built"
for name in training_step kernels cuda msg_core; do
    [ -x "$pack/bin/$name" ] || { echo "$name was not built" >&2; exit 1; }
done
printf '%s\n' "$toolkit/include" >"$pack/include-path"
git describe --always --dirty >"$pack/revision" 2>/dev/null || echo unknown >"$pack/revision"
cp "$here/run.sh" "$here/measure.py" "$here/README.md" "$root/benches/side_by_side/peer.py" "$pack/"
cp -r "$root/tests/fixtures" "$pack/fixtures"
tar -C "$stage" -czf "$out" msg-gpu
ls -l "$out"
