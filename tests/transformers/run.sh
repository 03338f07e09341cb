#!/bin/sh
# Holds msg against PyTorch and transformers: builds the commands and runs compare.py.
# The Python is the first argument, or MSG_PYTHON, or python3; without torch and transformers in it the script
# says so and ends well.
set -eu
cd "$(dirname "$0")/../.."
python="${1:-${MSG_PYTHON:-python3}}"
if ! why="$("$python" -c 'import safetensors, tokenizers, torch, transformers' 2>&1)"; then
    echo "skipped: $(printf '%s\n' "$why" | tail -n 1)"
    exit 0
fi
cargo build --release -p msg-cli -p msg-tests --bins
target="${CARGO_TARGET_DIR:-target}/release"
exec "$python" tests/transformers/compare.py --msg "$target/msg" --peer "$target/msg-peer"
