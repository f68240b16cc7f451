#!/usr/bin/env bash
# Installs third-party schedulers from the package registry, and checks them.
#
#   scripts/schedulers.sh install [NAME...]        installs these of scripts/schedulers.txt, or all, into target/registry
#   scripts/schedulers.sh check [OPTION...]        installs all, runs `cargo ktstr check OPTION...` on each, and writes
#                                                  docs/schedulers.md
#   scripts/schedulers.sh page [OPTION...]         writes that page from the results of such a check in target/schedulers
#
# The first installation of all schedulers takes an hour on two cores; a scheduler that is installed in the listed version is not
# built again. Exit: 0 all were checked, whatever was found; 1 one could not be installed or checked; 2 the arguments are wrong.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
root=$PWD/target/registry
list=scripts/schedulers.txt
cargo=${CARGO:-cargo}

usage() {
    sed -n '3,8s/^# \{0,1\}//p' "$0" >&2
    exit 2
}

names() { awk '!/^#/ && NF { print $1 }' "$list"; }
version() { awk -v name="$1" '$1 == name { print $2 }' "$list"; }
options() { awk -v name="$1" '$1 == name { $1 = $2 = ""; print }' "$list"; }

# The builds look for clang only under the name `clang`, which Debian 12 does not have, so they are given the name of a suitable
# clang. The Rust parts are built without optimisation, in a third of the time, because what a scheduler does is in its BPF
# programs, which clang always optimises. All builds share one folder, since most of their dependencies are the same.
install() {
    local clang name of
    clang=$(scripts/deps.sh --clang)
    for name in "$@"; do
        of=$(version "$name")
        [[ -n $of ]] || {
            echo "$0: $name is not in $list" >&2
            exit 2
        }
        BPF_CLANG=$clang CLANG=$clang CARGO_PROFILE_DEV_DEBUG=0 CARGO_TARGET_DIR=$PWD/target/registry-build \
            "$cargo" install --quiet --debug "$name" --version "$of" --locked --root "$root" || exit 1
    done
}

check() {
    local name code
    mkdir -p target/schedulers
    for name in $(names); do
        code=0
        # The result of an earlier check must not pass for one of this check.
        rm -f "target/schedulers/$name.json"
        # shellcheck disable=SC2046 # options are words
        target/debug/cargo-ktstr ktstr check "target/registry/bin/$name" --results "target/schedulers/$name.json" "$@" \
            $(options "$name") || code=$?
        # Exit code 1 is a finding about the scheduler; 2 with a file of results is a check in which nothing could be judged.
        [[ $code -le 1 || -s target/schedulers/$name.json ]] || exit 1
    done
}

page() {
    local name files=()
    for name in $(names); do files+=("target/schedulers/$name.json"); done
    {
        printf '# Published schedulers\n\n'
        printf '<!-- Written by `make schedulers`. -->\n\n'
        printf 'Each scheduler was installed from the package registry in this version, and checked by `cargo ktstr check%s`, with\n' \
            "${*:+ $*}"
        printf 'these options if there are any: '
        awk '!/^#/ && NF {
                 printf "%s%s %s", separator, $1, $2; separator = ", "
                 $1 = $2 = ""; sub(/^ +/, ""); if ($0 != "") printf " (`%s`)", $0
             } END { print "." }' "$list"
        printf '[check.md](check.md) explains the lists. The virtual clock decides everything on this page, so the same binaries give the\n'
        printf 'same page to the letter. The schedulers say nowhere what they promise: a row says what the schedule shows, measured by\n'
        printf 'fairness and work conservation, and a scheduler that trades fairness for latency on purpose is listed all the same.\n\n'
        target/debug/cargo-ktstr ktstr table "${files[@]}"
    } >docs/schedulers.md.new || exit 1
    mv docs/schedulers.md.new docs/schedulers.md
}

build() { "$cargo" build --quiet --workspace --bin scx-ktstr --bin cargo-ktstr; }

case ${1:-} in
install)
    shift
    if (($#)); then install "$@"; else mapfile -t all < <(names) && install "${all[@]}"; fi
    ;;
check)
    shift
    mapfile -t all < <(names)
    install "${all[@]}"
    build
    check "$@"
    page "$@"
    ;;
page)
    shift
    build
    page "$@"
    ;;
*) usage ;;
esac
