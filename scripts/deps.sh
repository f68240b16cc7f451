#!/bin/sh
# Makes sure that this machine has what is needed to build and run ktstr.
#
#   scripts/deps.sh           print what is missing, and install it
#   scripts/deps.sh --check   only print what is missing
#   scripts/deps.sh --clang   print the name of a suitable clang, for builds that do not look for one themselves
#   scripts/deps.sh --kernel-build
#                             the same as without an option, for what `cargo ktstr kernel build` needs instead
#   scripts/deps.sh --lint    the same as without an option, plus what only `make lint` needs
#
# Exit: 0 nothing is missing any more; 1 the option is unknown; 2 something is missing: the script cannot install it, or was
# called with --check.
# It knows Debian 12 (QEMU from its backports) and 13; elsewhere it prints what to install by hand. It never changes an
# existing file of the system, and the only file that it may add is ktstr-backports.sources.
#
# For tests: KTSTR_DEPS_ROOT is a folder to use for / when reading the system's configuration; with it set, nothing is
# installed and the commands are printed instead.
set -eu

root=${KTSTR_DEPS_ROOT:-}
min_qemu=10
min_clang=17
check=no
look=look_for_ktstr
case ${1:-} in
'') ;;
--check | --clang) check=yes ;;
--kernel-build) look=look_for_kernel_build ;;
--lint) look=look_for_lint ;;
*)
    echo "usage: $0 [--check|--clang|--kernel-build|--lint]" >&2
    exit 1
    ;;
esac

say() { printf '%s\n' "$*"; }
have() { command -v "$1" >/dev/null 2>&1; }

# Prints the first number in the first line of a command's output, which is its major version.
major() { "$@" 2>/dev/null | sed -n '1s/^[^0-9]*\([0-9][0-9]*\).*/\1/p'; }

at_least() { [ -n "$2" ] && [ "$2" -ge "$1" ]; }

find_clang() {
    for name in ${BPF_CLANG:-} clang clang-23 clang-22 clang-21 clang-20 clang-19 clang-18 clang-17; do
        if have "$name" && at_least "$min_clang" "$(major "$name" -dumpversion)"; then
            clang=$name
            return 0
        fi
    done
    return 1
}

# Whether the compiler finds a header. Only the compiler knows its search path.
has_header() { printf '#include <%s>\n' "$1" | cc -E -x c - >/dev/null 2>&1; }

# Fills $missing with one word for each thing that is not there.
look_for_ktstr() {
    missing=
    have cc || missing="$missing cc"
    have make || missing="$missing make"
    at_least "$min_qemu" "$(major qemu-system-x86_64 --version)" || missing="$missing qemu"
    find_clang || missing="$missing clang"
    have pkg-config || missing="$missing pkg-config"
    # xz unpacks modules of Debian's kernels, for tests with a disk.
    have xz || missing="$missing xz"
    if ! have cc || ! has_header libelf.h; then missing="$missing libelf"; fi
    if ! have cc || ! has_header zlib.h; then missing="$missing zlib"; fi
}

look_for_kernel_build() {
    missing=
    have gcc || missing="$missing cc"
    for tool in make flex bison bc pahole xz; do
        have "$tool" || missing="$missing $tool"
    done
    if ! have cc || ! has_header libelf.h; then missing="$missing libelf"; fi
}

look_for_lint() {
    look_for_ktstr
    have codespell || missing="$missing codespell"
}

in_words() {
    case $1 in
    cc) say "  a C compiler and linker (cc)" ;;
    make) say "  make" ;;
    qemu) say "  QEMU >= $min_qemu for x86-64 (qemu-system-x86_64); found: $(qemu-system-x86_64 --version 2>/dev/null | head -n 1 || true)" ;;
    clang) say "  clang >= $min_clang with its BPF target" ;;
    pkg-config) say "  pkg-config" ;;
    libelf) say "  libelf with its header (libelf.h)" ;;
    zlib) say "  zlib with its header (zlib.h)" ;;
    codespell) say "  codespell, which checks the spelling" ;;
    pahole) say "  pahole, which makes a kernel's type information" ;;
    *) say "  $1" ;;
    esac
}

by_hand() {
    say "$1" >&2
    say "Install the above by hand, then run this again. ktstr is tried on Debian 12 and 13." >&2
    exit 2
}

# Prints the URL and, on a second line, the keyring of the machine's own Debian archive entry for suite $1.
# Reads both forms: deb822 (.sources) and one line (.list). Skips security archives, which have other paths.
archive_of() {
    for file in "$root"/etc/apt/sources.list.d/*.sources; do
        [ -f "$file" ] || continue
        awk -v suite="$1" '
            function flush(   i, n, part, ok) {
                n = split(suites, part, /[ \t]+/); ok = 0
                for (i = 1; i <= n; i++) if (part[i] == suite) ok = 1
                split(uris, part, /[ \t]+/)
                if (ok && !off && types ~ /(^|[ \t])deb([ \t]|$)/ && part[1] !~ /security/) {
                    print part[1]; print signed; done = 1; exit
                }
                types = uris = suites = signed = key = ""; off = 0
            }
            /^#/ { next }
            /^[ \t]*$/ { flush(); next }
            # A key that is written into the entry itself takes several lines. Such an entry names no keyring.
            /^[ \t]/ { if (key == "uris") uris = (uris == "" ? "" : uris " ") trim($0)
                       if (key == "suites") suites = suites " " trim($0); next }
            { key = tolower(substr($0, 1, index($0, ":") - 1)); value = trim(substr($0, index($0, ":") + 1)) }
            key == "types" { types = value }
            key == "uris" { uris = value }
            key == "suites" { suites = value }
            key == "signed-by" { signed = value }
            key == "enabled" { off = (tolower(value) == "no") }
            function trim(s) { sub(/^[ \t]+/, "", s); sub(/[ \t]+$/, "", s); return s }
            END { if (!done) flush() }
        ' "$file"
    done
    for file in "$root"/etc/apt/sources.list "$root"/etc/apt/sources.list.d/*.list; do
        [ -f "$file" ] || continue
        awk -v suite="$1" '
            $1 != "deb" { next }
            {
                signed = ""; at = 2
                if ($2 ~ /^\[/) {
                    for (at = 2; at <= NF; at++) {
                        word = $at; gsub(/[][]/, "", word)
                        if (word ~ /^signed-by=/) signed = substr(word, 11)
                        if ($at ~ /\]$/) break
                    }
                    at++
                }
                if ($(at + 1) == suite && $at !~ /security/) { print $at; print signed; exit }
            }
        ' "$file"
    done
}

# Whether any enabled entry of the machine already serves suite $1.
serves() { [ -n "$(archive_of "$1")" ]; }

as_root() {
    if [ -n "$root" ]; then
        say "would run: $*"
    elif [ "$(id -u)" -eq 0 ]; then
        "$@"
    else
        sudo "$@"
    fi
}

add_backports() {
    serves "$1-backports" && return 0
    archive=$(archive_of "$1")
    url=$(printf '%s\n' "$archive" | sed -n 1p)
    keyring=$(printf '%s\n' "$archive" | sed -n 2p)
    [ -n "$url" ] || by_hand "QEMU >= $min_qemu comes from $1-backports, but no entry for $1 was found under /etc/apt to take the mirror from."
    entry=$(mktemp)
    {
        say "# QEMU $min_qemu for ktstr; written by its scripts/deps.sh. Remove this file to undo."
        say "Types: deb"
        say "URIs: $url"
        say "Suites: $1-backports"
        say "Components: main"
        [ -z "$keyring" ] || say "Signed-By: $keyring"
    } >"$entry"
    say "adding $1-backports from $url to /etc/apt/sources.list.d/ktstr-backports.sources"
    [ -z "$root" ] || sed 's/^/  | /' "$entry"
    as_root install -m 644 "$entry" /etc/apt/sources.list.d/ktstr-backports.sources
    rm -f "$entry"
}

if [ "${1:-}" = --clang ]; then
    find_clang || by_hand "No clang >= $min_clang was found."
    say "$clang"
    exit 0
fi

$look
if [ -z "$missing" ]; then
    [ "$check" = no ] || say "Nothing is missing."
    exit 0
fi
say "Missing on this machine:"
for item in $missing; do in_words "$item"; done

[ "$(uname -s)-$(uname -m)" = Linux-x86_64 ] || by_hand "ktstr runs on Linux on x86-64 only; this is $(uname -s) on $(uname -m)."

id='' codename=''
if [ -f "$root/etc/os-release" ]; then
    id=$(sed -n 's/^ID="\{0,1\}\([a-z]*\).*/\1/p' "$root/etc/os-release")
    codename=$(sed -n 's/^VERSION_CODENAME="\{0,1\}\([a-z]*\).*/\1/p' "$root/etc/os-release")
fi
case $id-$codename in
debian-bookworm) clang_package=clang-19 qemu_suite=bookworm-backports ;;
debian-trixie) clang_package=clang qemu_suite= ;;
*) by_hand "This system (${id:-unknown} ${codename:-}) is not one that this script can install on." ;;
esac

packages=
for item in $missing; do
    case $item in
    # gcc only recommends libc's headers and start-up files, and recommended packages are not installed.
    cc) packages="$packages gcc libc6-dev" ;;
    make) packages="$packages make" ;;
    qemu) packages="$packages qemu-system-x86" ;;
    clang) packages="$packages $clang_package" ;;
    pkg-config) packages="$packages pkg-config" ;;
    libelf) packages="$packages libelf-dev" ;;
    zlib) packages="$packages zlib1g-dev" ;;
    pahole) packages="$packages dwarves" ;;
    xz) packages="$packages xz-utils" ;;
    *) packages="$packages $item" ;;
    esac
done
say "To be installed:$packages"

if [ "$check" = yes ]; then
    say "Run scripts/deps.sh (or make deps) to install them."
    exit 2
fi
if [ -z "$root" ] && [ "$(id -u)" -ne 0 ] && ! have sudo; then
    say "This needs root, and sudo is not here. Run once as root: $(cd "$(dirname "$0")" && pwd)/deps.sh" >&2
    exit 2
fi

case " $packages " in
*" qemu-system-x86 "*) [ -z "$qemu_suite" ] || add_backports "$codename" ;;
*) qemu_suite= ;;
esac

# Only QEMU and the packages that it depends on come from the backports. The rest comes from the machine's own suite.
wanted=
for package in $packages; do
    case $package:$qemu_suite in
    qemu-system-x86:?*) wanted="$wanted $package/$qemu_suite" ;;
    *) wanted="$wanted $package" ;;
    esac
done

get() { as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "$@"; }

as_root apt-get update -q
# shellcheck disable=SC2086 # the lists are meant to be split
if ! get $wanted; then
    # The backported QEMU brings its own libelf, and the headers must be of the same version.
    serves "$codename-backports" || by_hand "apt-get could not install them; it says why above."
    say "Trying again with $codename-backports for all of them."
    get -t "$codename-backports" $packages || by_hand "apt-get could not install them; it says why above."
fi
[ -z "$root" ] || exit 0

$look
if [ -n "$missing" ]; then
    say "Still missing after the installation:" >&2
    for item in $missing; do in_words "$item" >&2; done
    by_hand "The packages were installed, but these are not on PATH or too old."
fi
