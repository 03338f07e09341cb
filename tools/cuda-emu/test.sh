#!/bin/sh
# The emulator's own tests: tensor-core products, ldmatrix, cp.async, shared memory in templates, warp
# operations and cuBLAS' products, in every order of threads; and that it stops where it must.
set -eu
here="$(cd "$(dirname "$0")" && pwd)"
sh "$here/build.sh"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
export LD_LIBRARY_PATH="$here/lib64" EMU_CACHE="$work/kernels"

"${CXX:-g++}" -std=c++17 -O1 -Wall -o "$work/check" "$here/tests/check.cpp" -L"$here/lib64" -lcuda -lcublas
"$here/bin/nvcc" --ptx -O3 -o "$work/kernels.ptx" "$here/tests/kernels.cu"
for order in fwd rev rand; do
    echo "order $order:"
    EMU_ORDER=$order "$work/check" "$work/kernels.ptx"
done
