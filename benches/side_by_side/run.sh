#!/usr/bin/env sh
# Our training step against PyTorch's, in turn, two threads each. Makes a virtual environment beside the
# build's output unless PYTHON names an interpreter that has torch. Arguments go to peer.py.
set -eu
here="$(cd "$(dirname "$0")" && pwd)"
cd "$here/../.."
target="${CARGO_TARGET_DIR:-target}"
cargo build --release -p msg-benches --bin training_step
if [ -z "${PYTHON:-}" ]; then
    venv="$target/side_by_side"
    [ -x "$venv/bin/python" ] || python3 -m venv "$venv"
    "$venv/bin/python" -c 'import torch' 2>/dev/null || "$venv/bin/pip" install --quiet torch==2.11.0 numpy
    PYTHON="$venv/bin/python"
fi
RAYON_NUM_THREADS=2 exec "$PYTHON" "$here/peer.py" "$target/release/training_step" "$@"
