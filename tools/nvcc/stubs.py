#!/usr/bin/env python3
"""Makes libraries to link with where there is no GPU: libcuda, which no wheel holds, and cuBLAS, NVRTC.

usage: stubs.py CUDARC FOLDER; CUDARC is the source of the crate cudarc, whose bindings say which functions there are.
Every function of a stub answers with an error. A program that is linked with them takes the real libraries where
it runs.
"""

import pathlib
import re
import subprocess
import sys

# Module of cudarc: library, its soname, the error that its functions answer with.
LIBRARIES = {
    "driver": ("libcuda.so", "libcuda.so.1", 100),  # CUDA_ERROR_NO_DEVICE
    "cublas": ("libcublas.so", "libcublas.so.13", 1),  # CUBLAS_STATUS_NOT_INITIALIZED
    "cublaslt": ("libcublasLt.so", "libcublasLt.so.13", 1),
    "nvrtc": ("libnvrtc.so", "libnvrtc.so.13", 4),  # NVRTC_ERROR_INVALID_PROGRAM
}
# What programs print errors with.
TEXTS = {
    name: f'int {name}(int error, const char **text) {{ *text = "a stub of libcuda: no device"; return 0; }}'
    for name in ("cuGetErrorName", "cuGetErrorString")
}


def functions(module):
    """Names of the functions that a module of cudarc declares."""
    text = "".join(path.read_text() for path in (module / "sys.rs", module / "half.rs") if path.exists())
    blocks = re.findall(r'extern "C" \{(.*?)\n\}', text, re.S)
    return sorted({name for block in blocks for name in re.findall(r"pub fn (\w+)\s*\(", block)})


def main(cudarc, folder):
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for module, (library, soname, error) in LIBRARIES.items():
        names = functions(pathlib.Path(cudarc) / "src" / module)
        if not names:
            sys.exit(f"{cudarc}: no functions of {module}")
        source = "".join(TEXTS.get(name, f"int {name}(void) {{ return {error}; }}") + "\n" for name in names)
        command = ["cc", "-x", "c", "-", "-shared", "-fPIC", f"-Wl,-soname,{soname}", "-o", folder / soname]
        subprocess.run(command, input=source, text=True, check=True)
        link = folder / library
        link.unlink(missing_ok=True)
        link.symlink_to(soname)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
