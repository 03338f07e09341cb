#!/bin/sh
# Prints the variables with which a process runs its kernels under AddressSanitizer: `env $(asan.sh) PROGRAM`.
#
# The program itself is not instrumented, so it leaks nothing that could be told from what it never frees. Kernels
# run on stacks of their own, which a fake stack would not survive.
set -eu
library="$("${EMU_CXX:-g++}" -print-file-name=libasan.so)"
case "$library" in
/*) ;;
*)
    echo "there is no libasan: install the compiler's (libasan8 or the like)" >&2
    exit 1
    ;;
esac
# One variable a line and no spaces in any: kernels take their flags by commas.
echo "LD_PRELOAD=$library"
echo "ASAN_OPTIONS=detect_leaks=0:detect_stack_use_after_return=0:detect_odr_violation=0"
echo "EMU_VARIANT=-O1,-g,-fsanitize=address"
