#!/usr/bin/env sh
# A GPT that grows and one of full size from the start, on the sources of this project's dependencies (more
# than 100 MB after `cargo fetch --locked`): both curves in one report, and where they meet.
set -eu
cd "$(dirname "$0")/../.."
sources="${CARGO_HOME:-$HOME/.cargo}/registry/src"
cargo fetch --locked
cargo build --release -p msg-cli
msg="${CARGO_TARGET_DIR:-target}/release/msg"
for run in full grown; do
    "$msg" train "benches/grown_or_full/$run.toml" --set "data.sources=[\"$sources\"]" --resume auto
done
"$msg" report runs/grown_or_full/full runs/grown_or_full/grown --out runs/grown_or_full/report.html
