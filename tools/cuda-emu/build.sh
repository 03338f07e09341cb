#!/bin/sh
# Builds the emulated driver, cuBLAS and NVRTC into lib64/ (a few seconds). Needs g++ 12 or newer.
set -eu
cd "$(dirname "$0")"
mkdir -p lib64

build() { # source, soname
    if [ "lib64/$2" -nt "src/$1.cpp" ]; then return; fi
    "${CXX:-g++}" -O2 -std=c++17 -Wall -shared -fPIC -fvisibility=hidden -Wl,-soname,"$2" \
        -o "lib64/$2" "src/$1.cpp" -ldl
    ln -sfn "$2" "lib64/$1.so"
}

build libcuda libcuda.so.1
build libcublas libcublas.so.13
build libnvrtc libnvrtc.so.13
# cudarc links it, nothing here calls it.
echo 'int emu_cublaslt;' | "${CXX:-g++}" -x c++ - -shared -fPIC -Wl,-soname,libcublasLt.so.13 -o lib64/libcublasLt.so.13
ln -sfn libcublasLt.so.13 lib64/libcublasLt.so
