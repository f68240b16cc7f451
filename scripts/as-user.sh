#!/usr/bin/env bash
# Runs a command as an ordinary user, with root's Rust toolchain. ordinary-user.sh uses it to try ktstr as most people do.
#
#   scripts/as-user.sh USER COMMAND [ARGUMENT...]
#
# Needs root. USER must exist; the command runs in the current folder, with USER's own home, groups and environment. Root's
# toolchain is bind-mounted into USER's home, because it may be in a folder that only root can enter, as /root is on most
# systems. No permission of the system is changed, and the bind mount disappears with the command.
#
# USER's ~/.cargo also appears at the path of root's ~/.cargo, and cargo uses it there. Otherwise packages that root has
# compiled could not be reused, because cargo compiles a package again when the path of its source changes.
set -euo pipefail

[[ $# -ge 2 ]] || {
    echo "usage: $0 USER COMMAND [ARGUMENT...]" >&2
    exit 1
}
[[ $(id -u) -eq 0 ]] || {
    echo "$0: only root can become another user" >&2
    exit 2
}
user=$1
shift
home=$(getent passwd "$user" | cut -d: -f6)
[[ -d $home ]] || {
    echo "$0: there is no user $user with a home" >&2
    exit 2
}
toolchain=$(rustc --print sysroot)
place=$home/.toolchain
install -d -o "$user" -m 755 "$place"
[[ -d $home/.cargo ]] || install -d -o "$user" -m 755 "$home/.cargo"
cargo=${CARGO_HOME:-$HOME/.cargo}
[[ -d $cargo ]] || mkdir -p "$cargo"

# The topmost folder on the way to root's packages that USER cannot enter; empty when there is none.
closed=
for ((at = 1; at <= ${#cargo}; at++)); do
    [[ ${cargo:at:1} == / || $at -eq ${#cargo} ]] || continue
    if ! setpriv --reuid "$user" --regid "$user" --init-groups test -x "${cargo:0:at}"; then
        closed=${cargo:0:at}
        break
    fi
done

# The variables of the build are taken from the caller, everything else is USER's own.
keep=()
for name in CARGO_PROFILE_DEV_DEBUG CARGO_PROFILE_DEV_BUILD_OVERRIDE_DEBUG CARGO_INCREMENTAL CARGO_BUILD_JOBS \
    CARGO_TERM_COLOR CI; do
    [[ -z ${!name:-} ]] || keep+=("$name=${!name}")
done

# shellcheck disable=SC2016 # the inner shell expands these
exec unshare --mount sh -ec '
    mount --bind "$1" "$2"
    if [ -n "$3" ]; then
        mount -t tmpfs -o mode=755 closed "$3"
    fi
    mkdir -p "$5"
    mount --bind "$4" "$5"
    shift 5
    exec "$@"
' sh "$toolchain" "$place" "$closed" "$home/.cargo" "$cargo" \
    setpriv --reuid "$user" --regid "$user" --init-groups \
    env -i HOME="$home" USER="$user" LOGNAME="$user" SHELL=/bin/bash TERM="${TERM:-dumb}" \
    PATH="$place/bin:/usr/local/bin:/usr/bin:/bin" CARGO_HOME="$cargo" "${keep[@]}" "$@"
