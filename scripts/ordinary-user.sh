#!/usr/bin/env bash
# Tries ktstr as an ordinary user: a clone in a home folder, the demo twice, doctor, acceptance, the whole suite.
#
#   scripts/ordinary-user.sh [--seed N] [USER]
#
# Needs root, and what `make deps` installs. If USER (default: ktstr-ci) does not exist, it is created, and removed at the end.
# A ktstr-ci that an earlier run left is removed, too; any other user that exists is kept. Root's packages and compiled
# dependencies are copied, since they do not depend on who compiles; the crates of the workspace are compiled again, as in any
# clone. With --seed the tests that boot machines run under that seed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
root=$PWD
seed=
if [[ ${1:-} == --seed ]]; then
    seed=$2
    shift 2
fi
user=${1:-ktstr-ci}

say() { printf -- '-- %s\n' "$*"; }
fail() {
    printf 'FAILED: %s\n' "$*" >&2
    exit 1
}

as_user() { (cd "$clone" && "$root/scripts/as-user.sh" "$user" "$@"); }

make_user() {
    local existed=
    if id "$user" >/dev/null 2>&1; then
        existed=1
    else
        useradd --create-home --shell /bin/bash "$user"
    fi
    # If the user cannot be removed, that must not change the exit code.
    if [[ -z $existed || $user == ktstr-ci ]]; then
        trap 'userdel --remove "$user" >/dev/null 2>&1 || echo "warning: the user $user could not be removed" >&2' EXIT
    fi
    home=$(getent passwd "$user" | cut -d: -f6)
    clone=$home/a-clone-of/ktstr
}

# Copies the tracked files as they are in this checkout, so that changes that are not committed yet are tried, too.
give_clone() {
    rm -rf "$clone"
    mkdir -p "$clone"
    git ls-files -z | tar --null --files-from=- --create | tar --extract --directory="$clone"
}

# Copies root's packages and compiled dependencies. as-user.sh makes the packages appear at the path that they have for root.
give_dependencies() {
    local registry=${CARGO_HOME:-$HOME/.cargo}/registry
    mkdir -p "$home/.cargo" "$clone/target/debug"
    [[ ! -d $registry ]] || cp -a "$registry" "$home/.cargo/"
    [[ ! -d target/debug ]] || (
        cd target/debug
        find deps .fingerprint build -mindepth 1 -maxdepth 1 ! -name '*ktstr*' \
            \( -type d -o -name '*.rlib' -o -name '*.rmeta' -o -name '*.a' -o -name '*.so' -o -name '*.d' \) -print0 |
            tar --null --files-from=- --create | tar --extract --directory="$clone/target/debug"
    )
}

# demo FILE: runs the demo, and keeps its output in FILE.
demo() {
    as_user make demo >"$1" 2>&1 || {
        cat "$1" >&2
        fail "make demo as $user"
    }
}

templates() { find "$home/.cache/ktstr/templates" -mindepth 1 -maxdepth 1 ! -name '.*' -printf '%f %i\n' | sort; }

# The second run starts from the templates that the first one made, and takes at most 10 s in addition to its window.
demo_twice() {
    local out before
    out=$(mktemp)
    demo "$out"
    before=$(templates)
    [[ -n $before ]] || fail "the first demo made no template"
    demo "$out"
    cat "$out"
    ! grep -E 'starting cold|is damaged' "$out" || fail "the second demo could not use the templates of the first"
    grep -q 'forked from a template with the scheduler attached' "$out" || fail "the second demo started from no template"
    [[ $(templates) == "$before" ]] || fail "the second demo made its templates again"
    awk '/ s of host time: boot / { found = 1; extra = $1 - $9; if (extra > 10) late = 1 }
         END { printf "-- %.1f s in addition to the window\n", extra; exit !found || late }' "$out" ||
        fail "the second demo took more than 10 s in addition to its window"
    rm -f "$out"
}

doctor() { as_user cargo run --quiet --bin cargo-ktstr -- doctor || fail "doctor finds something missing for $user"; }

acceptance() {
    [[ -x ../shared/acceptance/run ]] || return 0
    rm -rf "$home/acceptance"
    cp -r ../shared/acceptance "$home/acceptance"
    chown -R "$user:" "$home/acceptance"
    as_user "$home/acceptance/run" "$clone"
}

# Runs the whole suite, which everybody who clones the project gets, in a folder with another name than root's.
suite() { as_user make test ${seed:+SEED="$seed"}; }

make_user
say "a clone for $user in $clone"
give_clone
give_dependencies
chown -R "$user:" "$home"
for part in demo_twice doctor acceptance suite; do
    start=$SECONDS
    say "$part as $user"
    "$part"
    say "$part as $user: ok, $((SECONDS - start)) s"
done
