#!/bin/sh
# The emulator's own tests: tensor-core products, ldmatrix, cp.async, shared memory in templates, warp
# operations and cuBLAS' products, in every order of threads and under AddressSanitizer; and that it objects
# to kernels that are wrong.
set -eu
here="$(cd "$(dirname "$0")" && pwd)"
sh "$here/build.sh"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
export LD_LIBRARY_PATH="$here/lib64" EMU_CACHE="$work/kernels"

"${CXX:-g++}" -std=c++17 -O1 -Wall -o "$work/check" "$here/tests/check.cpp" -L"$here/lib64" -lcuda -lcublas
for kernels in kernels wrong; do "$here/bin/nvcc" --ptx -O3 -o "$work/$kernels.ptx" "$here/tests/$kernels.cu"; done
asan() { env $("$here/asan.sh") "$@"; }

for order in fwd rev rand; do
    echo "order $order:"
    EMU_ORDER=$order "$work/check" "$work/kernels.ptx"
done
echo "AddressSanitizer:"
asan "$work/check" "$work/kernels.ptx"

objects() { # kernel, text, command...
    kernel=$1 text=$2
    shift 2
    if "$@" "$work/check" "$work/wrong.ptx" "$kernel" >"$work/said" 2>&1 || ! grep -q "$text" "$work/said"; then
        cat "$work/said"
        echo "no objection to $kernel"
        exit 1
    fi
}
asan "$work/check" "$work/wrong.ptx" none
objects half_a_warp "without some of its lanes" env
objects divergent_barrier "deadlock" env
objects missing_barrier "never written" env
objects missing_wait "never written" env
for kernel in beyond_global beyond_static_shared beyond_dynamic_shared; do
    objects $kernel "ERROR: AddressSanitizer" asan
done
echo "objects to all that is wrong"
