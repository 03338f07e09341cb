#!/bin/sh
# Puts NVIDIA's CUDA 13.0 compiler and headers into a folder, from PyPI's wheels: no GPU, no root, about 100 MB.
#
# usage: fetch.sh FOLDER [libraries]; then CUDA_PATH=FOLDER/nvidia/cu13. With `libraries` cuBLAS and NVRTC come too,
# which programs need where they run. Versions stay at 13.0: a driver of that release refuses PTX of a newer compiler.
# Exit status 75 where there is no pip or the wheels do not come.
set -eu
folder="$1"
toolkit="$folder/nvidia/cu13"
wheels="nvidia-cuda-nvcc==13.0.88 nvidia-nvvm==13.0.88 nvidia-cuda-crt==13.0.88
    nvidia-cuda-runtime==13.0.96 nvidia-cuda-cccl==13.0.85"
if [ "${2:-}" = libraries ]; then wheels="$wheels nvidia-cublas==13.1.0.3 nvidia-cuda-nvrtc==13.0.88"; fi

# A folder that has the libraries, too, serves who asks for none.
case "$(cat "$folder/complete" 2>/dev/null)" in "$wheels"*) exit 0 ;; esac
rm -rf "$folder"
mkdir -p "$folder"
pip="python3 -m pip"
if ! $pip --version >/dev/null 2>&1; then
    # Debian keeps pip apart from python3, but where venv is there it brings one.
    python3 -m venv "$folder/venv" >/dev/null 2>&1 || { echo "no pip"; exit 75; }
    pip="$folder/venv/bin/python -m pip"
fi
# shellcheck disable=SC2086  # lists of words
$pip install --quiet --disable-pip-version-check --root-user-action=ignore --no-compile --no-deps \
    --only-binary=:all: --target "$folder" $wheels || { echo "cannot fetch the wheels"; exit 75; }
# Where nvcc and build scripts look for libraries.
ln -sfn lib "$toolkit/lib64"
mkdir -p "$toolkit/lib/stubs"
"$toolkit/bin/nvcc" --version >/dev/null
echo "$wheels" >"$folder/complete"
