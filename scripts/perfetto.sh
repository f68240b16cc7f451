#!/usr/bin/env bash
# Makes a run, writes its trace for the Perfetto UI, and reads the trace back with Perfetto's own message definitions.
# Compiling the definitions takes some minutes the first time.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
cargo=${CARGO:-cargo}

runs=$(mktemp -d)
trap 'rm -rf "$runs"' EXIT
export KTSTR_RUNS_ROOT=$runs
KTSTR_CLOCK=virtual "$cargo" run --quiet --bin cargo-ktstr -- demo >/dev/null
run=$(find "$runs" -mindepth 1 -maxdepth 1 -type d -not -name '.*' | sort | tail -n 1)
"$cargo" run --quiet --bin cargo-ktstr -- trace "$run" --perfetto
KTSTR_PERFETTO_RUN=$run "$cargo" test --manifest-path checks/perfetto/Cargo.toml --locked \
    --target-dir "${CARGO_TARGET_DIR:-target}/perfetto"
