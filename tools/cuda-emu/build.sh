#!/bin/sh
# Builds the emulated driver, cuBLAS and NVRTC into lib64/ (a few seconds). Needs g++ 12 or newer.
set -eu
cd "$(dirname "$0")"
mkdir -p lib64

build() { # source, soname, flags...
    source=$1 soname=$2
    shift 2
    if [ "lib64/$soname" -nt "src/$source.cpp" ] && [ "lib64/$soname" -nt build.sh ]; then return; fi
    "${CXX:-g++}" -O2 -std=c++17 -Wall -shared -fPIC -fvisibility=hidden -Wl,-soname,"$soname" "$@" \
        -o "lib64/$soname.new" "src/$source.cpp" -ldl
    mv "lib64/$soname.new" "lib64/$soname" # at once: another process may have it open
    ln -sfn "$soname" "lib64/$source.so"
}

build libcuda libcuda.so.1
# The products are most of the work in a training run.
build libcublas libcublas.so.13 -O3 -march=native
build libnvrtc libnvrtc.so.13
build libcublasLt libcublasLt.so.13 -O3 -march=native
