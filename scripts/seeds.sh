#!/bin/sh
# Runs the tests that boot a virtual machine once for each of several seeds: a passing run shows one schedule, and a test
# or a check that holds for that schedule alone is a defect.
#
#   scripts/seeds.sh COUNT          draw COUNT seeds, print them, run the tests under each
#   scripts/seeds.sh --seeds 1 2 3  run the tests under these seeds
#   scripts/seeds.sh --others       run all the other tests, on which KTSTR_SEED has no influence
#
# Exit: 0 all tests passed under all seeds; 1 a test failed: with a seed, the command that runs the tests under it again is
# printed at the end; 2 the arguments are wrong.
set -eu
cd "$(dirname "$0")/.."

usage() {
    echo "usage: $0 COUNT | --seeds SEED... | --others" >&2
    exit 2
}

number() {
    case $1 in
    '' | *[!0-9]*) usage ;;
    esac
}

others=
case ${1:-} in
--seeds)
    shift
    [ $# -gt 0 ] || usage
    seeds=$*
    ;;
--others)
    [ $# -eq 1 ] || usage
    seeds=
    others=yes
    ;;
*)
    [ $# -eq 1 ] || usage
    number "$1"
    [ "$1" -gt 0 ] || usage
    seeds=$(od -An -N$(($1 * 4)) -tu4 -w4 /dev/urandom | tr -d ' ')
    ;;
esac
for seed in $seeds; do number "$seed"; done

# Test files that set the seed themselves, or test something on which a seed has no influence: files, command lines,
# compilers, how a machine is confined. All other test files of these packages run.
without="accelerator bad_input commands confinement determinism docs guide hostile_guest hygiene nextest power"
without="$without promise replay ui warm"
targets=
rest=
for file in crates/*/tests/*.rs crates/*/tests/*/main.rs schedulers/*/tests/*.rs; do
    [ -f "$file" ] || continue
    name=${file%/main.rs}
    name=$(basename "$name" .rs)
    case $file in
    # This test needs a scheduler that `make test-registry` installs.
    */registry_scheduler.rs) continue ;;
    crates/ktstr/*) boots=yes ;;
    # The test files with `mod common` run the command as its users do, with seeds from the command line: tests/common
    # removes KTSTR_SEED.
    crates/cargo-ktstr/*) boots=$(grep -q '^mod common;' "$file" || echo yes) ;;
    *) boots= ;;
    esac
    case " $without " in
    *" $name "*) boots= ;;
    esac
    if [ -n "$boots" ]; then
        targets="$targets --test $name"
    else
        rest="$rest --test $name"
    fi
done

cargo=${CARGO:-cargo}
# The scheduler under test must be built before the tests look for it.
"$cargo" build --quiet --workspace --bin scx-ktstr
if [ -n "$others" ]; then
    red=0
    # shellcheck disable=SC2086 # the list is meant to be split
    "$cargo" test --workspace --no-fail-fast --lib --bins --examples $rest || red=1
    "$cargo" test --workspace --no-fail-fast --doc || red=1
    exit $red
fi

log=$(mktemp)
status=$(mktemp)
trap 'rm -f "$log" "$status"' EXIT
failed=
passed=0
for seed in $seeds; do
    echo "seed $seed"
    {
        red=0
        # shellcheck disable=SC2086 # the list is meant to be split
        KTSTR_SEED=$seed "$cargo" test --workspace --no-fail-fast $targets 2>&1 || red=1
        echo $red >"$status"
    } | tee "$log"
    if [ "$(cat "$status")" = 0 ]; then
        passed=$((passed + 1))
    else
        failed="$failed $seed"
    fi
    grep '^test result' "$log" | awk '{ passed += $4; failed += $6 } END { printf "  %d tests passed, %d failed\n", passed, failed }'
done
count=$(echo "$seeds" | wc -w)
echo "$passed of $count seeds: all tests passed"
if [ -n "$failed" ]; then
    for seed in $failed; do
        echo "again: scripts/seeds.sh --seeds $seed"
    done
    exit 1
fi
