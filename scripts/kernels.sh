#!/usr/bin/env bash
# Runs the demo, the acceptance test, and the tests of the exact schedule on other kernels. The schedule is recorded at entries
# of functions of the kernel, whose names and meanings change between versions.
#
#   scripts/kernels.sh           on one kernel of each series that Debian's archive offers today, and on the other flavours
#                                (plain, PREEMPT_RT) of one series
#   scripts/kernels.sh SPEC...   on these: anything that KTSTR_KERNEL accepts, such as debian:7.1 or ~/linux
#
# Prints a table at the end. Exit: 0 all passed, 1 a test failed or a kernel is not available, 2 the kernels could not be listed.
# The acceptance test is ../shared/acceptance/run if that exists, else the project's own first_run test.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

target=${CARGO_TARGET_DIR:-target}
cargo=${CARGO:-cargo}
$cargo build --quiet --workspace --bin scx-ktstr --bin cargo-ktstr
ktstr() { "$target/debug/cargo-ktstr" ktstr "$@"; }

# Reads the table of what is offered, and prints one kernel of each series, then the other flavours of the newest series
# that has all of them.
choose() {
    awk '
        NR == 1 { next }
        !($2 in first) { first[$2] = $1; order[++series] = $2 }
        { flavours[$2] = flavours[$2] " " $1; count[$2]++; if (count[$2] > most) most = count[$2] }
        END {
            for (i = 1; i <= series; i++) print first[order[i]]
            for (i = 1; i <= series; i++) {
                if (count[order[i]] < most) continue
                n = split(flavours[order[i]], specs, " ")
                for (j = 1; j <= n; j++) if (specs[j] != first[order[i]]) print specs[j]
                break
            }
        }'
}

if (($#)); then
    specs=("$@")
else
    offered=$(ktstr kernel list --offered) || exit 2
    mapfile -t specs < <(choose <<<"$offered")
fi
((${#specs[@]})) || {
    echo "kernels.sh: Debian's archive offers no kernels" >&2
    exit 2
}

acceptance() {
    if [[ -x ../shared/acceptance/run ]]; then
        ../shared/acceptance/run "$PWD"
    else
        $cargo test --quiet --workspace --test vm -- first_run::
    fi
}

# check NAME COMMAND...: runs the command and sets $result. Shows what the command printed if it fails.
check() {
    local name=$1 log start=$SECONDS
    shift
    log=$(mktemp)
    if "$@" >"$log" 2>&1; then
        result="ok, $((SECONDS - start)) s"
    else
        result=FAILED
        failed=1
        sed "s/^/    /" "$log"
    fi
    printf '   %s: %s\n' "$name" "$result"
    rm -f "$log"
}

failed=0
rows=("SPEC|RELEASE|FLAVOUR|DEMO|ACCEPTANCE|SCHEDULE")
for spec in "${specs[@]}"; do
    printf '== %s\n' "$spec"
    if ! id=$(KTSTR_KERNEL=$spec ktstr kernel path | xargs -d '\n' dirname | xargs -d '\n' basename); then
        rows+=("$spec|not available|-|-|-|-")
        failed=1
        continue
    fi
    read -r release sched_ext < <(ktstr kernel list | awk -v id="$id" '$1 == id { print $2, $3 }')
    flavour=$(sed -n 's/^[^-]*-\(.*\)-amd64$/\1/p' <<<"$release")
    if [[ $sched_ext != yes ]]; then
        rows+=("$spec|$release|${flavour:-plain}|no sched_ext|no sched_ext|no sched_ext")
        continue
    fi
    export KTSTR_KERNEL=$spec
    check demo ktstr demo
    demo=$result
    check acceptance acceptance
    acceptance=$result
    check schedule $cargo test --quiet --workspace --test vm -- quota:: bypass:: schedule::
    rows+=("$spec|$release|${flavour:-plain}|$demo|$acceptance|$result")
    unset KTSTR_KERNEL
done

printf '\n'
printf '%s\n' "${rows[@]}" | awk -F'|' '
    { for (i = 1; i <= NF; i++) { cell[NR, i] = $i; if (length($i) > width[i]) width[i] = length($i) } }
    END { for (row = 1; row <= NR; row++) { line = ""
          for (i = 1; i <= NF; i++) line = line sprintf("%-" width[i] "s  ", cell[row, i])
          sub(/ +$/, "", line); print line } }'
exit "$failed"
