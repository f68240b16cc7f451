#!/usr/bin/env bash
# Runs each fuzz target of `fuzz/`: every reader of bytes that a guest or a file can make hostile, on inputs that libFuzzer makes.
#
#   scripts/fuzz.sh [RUNS [MOST_SECONDS [TARGET...]]]
#
# Each target runs RUNS inputs (default: 10000000), or as many as it can in MOST_SECONDS (default: 0, no limit). The inputs that
# reach new code are kept in fuzz/corpus, from which the next call continues. Exit: 0 every target was green; 1 one was red: its
# input and the command that repeats the failure are printed, and the others still run; 2 the arguments are wrong.
#
# The flags are those of `cargo fuzz run --sanitizer none`, which works in this folder too. This script calls cargo itself, so it
# needs neither cargo-fuzz nor a nightly compiler. Only sanitizers need a nightly one, and our code has little `unsafe` for them
# to watch.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
cargo=${CARGO:-cargo}

runs=${1:-10000000} most_seconds=${2:-0}
if ! [[ $runs =~ ^[0-9]+$ && $most_seconds =~ ^[0-9]+$ ]]; then
    echo "usage: $0 [RUNS [MOST_SECONDS [TARGET...]]]" >&2
    exit 2
fi
targets=("${@:3}")
if [[ ${#targets[@]} -eq 0 ]]; then
    for file in fuzz/fuzz_targets/*.rs; do
        targets+=("$(basename "$file" .rs)")
    done
fi

coverage="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters"
coverage="$coverage -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares"
host=$(rustc -vV | sed -n 's/^host: //p')
target_dir=${CARGO_TARGET_DIR:-target}/fuzz
# With --target, cargo does not apply RUSTFLAGS to build scripts.
RUSTFLAGS="--cfg fuzzing $coverage -Cdebug-assertions -Ccodegen-units=1" "$cargo" build --quiet --release --locked \
    --manifest-path fuzz/Cargo.toml --target "$host" --target-dir "$target_dir" "${targets[@]/#/--bin=}"

log=$(mktemp)
trap 'rm -f "$log"' EXIT
red=0
for target in "${targets[@]}"; do
    program=$target_dir/$host/release/$target
    corpus=fuzz/corpus/$target
    mkdir -p "$corpus" "fuzz/artifacts/$target"
    given=("$corpus")
    [[ ! -d fuzz/seeds/$target ]] || given+=("fuzz/seeds/$target")
    [[ $target != scenario ]] || given+=(docs/guide/scenarios)
    options=(-runs="$runs" -max_total_time="$most_seconds" -max_len=4096 -timeout=60 -print_final_stats=1 -verbosity=1)
    [[ ! -f fuzz/dictionaries/$target ]] || options+=(-dict="fuzz/dictionaries/$target")
    status=ok
    "$program" "${options[@]}" -artifact_prefix="fuzz/artifacts/$target/" "${given[@]}" >"$log" 2>&1 || status=RED
    done_runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
    printf '%-16s %-3s %9d runs, %5d inputs in the corpus\n' "$target" "$status" "${done_runs:-0}" \
        "$(find "$corpus" -type f | wc -l)"
    if [[ $status = RED ]]; then
        red=1
        # Only the reason and the places in our code are printed, because most of the log is libFuzzer's.
        grep -A1 -E 'panicked at|takes more than|ERROR: libFuzzer' "$log" | head -n 6 | sed 's/^/    /' || true
        grep -E '^ +at (\./|fuzz)' "$log" | head -n 12 || true
        input=$(sed -n 's/.*Test unit written to //p' "$log" | tail -n 1)
        echo "    input:  ${input:-none was written}"
        echo "    again:  $program $input"
    fi
done
exit $red
