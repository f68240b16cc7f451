#!/bin/sh
# Runs the tests that boot a virtual machine once for each of some seeds: a green run is one schedule, and a test or a
# check that holds for that schedule alone is a defect.
#
#   scripts/seeds.sh COUNT          draw COUNT seeds, print them, run the tests under each
#   scripts/seeds.sh --seeds 1 2 3  run the tests under these seeds
#
# Exit: 0 all tests passed under all seeds; 1 a test failed under a seed: its name, the seed and the command that runs it
# again are printed at the end; 2 the arguments are wrong.
set -eu
cd "$(dirname "$0")/.."

usage() {
    echo "usage: $0 COUNT | --seeds SEED..." >&2
    exit 2
}

number() {
    case $1 in
    '' | *[!0-9]*) usage ;;
    esac
}

case ${1:-} in
--seeds)
    shift
    [ $# -gt 0 ] || usage
    seeds=$*
    ;;
*)
    [ $# -eq 1 ] || usage
    number "$1"
    [ "$1" -gt 0 ] || usage
    seeds=$(od -An -N$(($1 * 4)) -tu4 -w4 /dev/urandom | tr -d ' ')
    ;;
esac
for seed in $seeds; do number "$seed"; done

# Test files that set the seed themselves, or judge something that no seed reaches: files, command lines, compilers, how a
# machine is confined. The culprit matrix is left out for its cost: it takes as long as all the others.
# Whatever else lies among the tests of these packages runs.
without="accelerator bad_input commands confinement culprit determinism hostile_guest hygiene nextest papers power promise"
without="$without registry_scheduler replay ui warm"
targets=
for package in ktstr cargo-ktstr; do
    for file in crates/"$package"/tests/*.rs crates/"$package"/tests/*/main.rs; do
        [ -f "$file" ] || continue
        case $file in
        */main.rs) file=${file%/main.rs} ;;
        esac
        name=$(basename "$file" .rs)
        case " $without " in
        *" $name "*) ;;
        *) targets="$targets --test $name" ;;
        esac
    done
done

log=$(mktemp)
trap 'rm -f "$log"' EXIT
failed=
passed=0
# The scheduler under test must lie where the tests look for it.
${CARGO:-cargo} build --quiet --workspace --bin scx-ktstr
for seed in $seeds; do
    echo "seed $seed"
    # shellcheck disable=SC2086 # the list is meant to be split
    if KTSTR_SEED=$seed ${CARGO:-cargo} test --workspace --no-fail-fast $targets >"$log" 2>&1; then
        passed=$((passed + 1))
    else
        cat "$log"
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
