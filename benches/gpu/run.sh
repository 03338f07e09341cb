#!/usr/bin/env bash
# On a machine with a GPU: lays dfdx's and CUDA's headers where the programs look for them, finds the libraries, and
# measures. Arguments go to measure.py. PYTHON names an interpreter that has torch (default python3).
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
python="${PYTHON:-python3}"

# The folders of CUDA 13: a toolkit, or the wheels that PyTorch has come with.
wheels="$("$python" -c 'import nvidia.cu13 as m; print(list(m.__path__)[0])' 2>/dev/null || true)"
include="" libraries=""
for folder in "${CUDA_PATH:-}" /usr/local/cuda-13.0 /usr/local/cuda-13 /usr/local/cuda $wheels; do
    [ -n "$folder" ] || continue
    [ -z "$include" ] && [ -f "$folder/include/cuda_fp16.h" ] && include="$folder/include"
    for lib in "$folder/lib64" "$folder/lib"; do
        [ -e "$lib/libnvrtc.so.13" ] || [ -e "$lib/libcublas.so.13" ] || continue
        libraries="$libraries:$lib"
        break
    done
done
[ -n "$include" ] || { echo "no folder of CUDA 13 with include/cuda_fp16.h: set CUDA_PATH" >&2; exit 1; }
[ -n "$libraries" ] || { echo "no libnvrtc.so.13 or libcublas.so.13: set CUDA_PATH" >&2; exit 1; }

cp -r "$here/headers/." /
wanted="$(cat "$here/include-path")"
mkdir -p "$(dirname "$wanted")"
[ -e "$wanted" ] || ln -sfn "$include" "$wanted"
echo "headers: $(readlink -f "$wanted"), libraries: ${libraries#:}"

export LD_LIBRARY_PATH="${libraries#:}${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}" MSG_FIXTURES="$here/fixtures"
exec "$python" "$here/measure.py" --bin "$here/bin" "$@"
