#!/bin/sh
# Tests of deps.sh on simulated systems: nothing is installed, only the commands that it would run are checked.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
passed=0

# A PATH with the ordinary tools but none of what deps.sh looks for.
mkdir "$work/bin"
for tool in sh awk sed head tr id uname mktemp rm cat install dirname env; do
    ln -s "$(command -v "$tool")" "$work/bin/$tool"
done

# system NAME ID CODENAME: a simulated root with an empty apt configuration.
system() {
    mkdir -p "$work/$1/etc/apt/sources.list.d"
    printf 'NAME="x"\nID=%s\nVERSION_CODENAME=%s\n' "$2" "$3" >"$work/$1/etc/os-release"
}

# run NAME WANTED_EXIT [ARGUMENT]: deps.sh on that system; its output goes to $work/out.
run() {
    code=0
    PATH=$work/bin KTSTR_DEPS_ROOT=$work/$1 "$here/deps.sh" ${3:+"$3"} >"$work/out" 2>&1 || code=$?
    [ "$code" -eq "$2" ] || fail "$1: exit $code, wanted $2"
}

fail() {
    echo "FAILED: $*" >&2
    cat "$work/out" >&2
    exit 1
}

says() { grep -qF -- "$1" "$work/out" || fail "does not say: $1"; passed=$((passed + 1)); }
says_not() { ! grep -qF -- "$1" "$work/out" || fail "says: $1"; passed=$((passed + 1)); }

system deb822 debian bookworm
cat >"$work/deb822/etc/apt/sources.list.d/debian.sources" <<'EOF'
# a comment
Types: deb
URIs: http://mirror.example/security
Suites: bookworm-security
Components: main

Types: deb deb-src
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates
Components: main
Signed-By: /usr/share/keyrings/own.gpg
EOF
run deb822 0
says 'URIs: http://mirror.example/debian'
says 'Suites: bookworm-backports'
says 'Signed-By: /usr/share/keyrings/own.gpg'
says 'qemu-system-x86/bookworm-backports'
says 'clang-19'
says_not 'libelf-dev/'
says_not 'mirror.example/security'

run deb822 2 --check
says 'QEMU >= 10'
says 'clang >= 17'
says_not 'would run'

system oneline debian bookworm
echo 'deb [arch=amd64 signed-by=/k.gpg] https://one.example/debian bookworm main contrib' >"$work/oneline/etc/apt/sources.list"
run oneline 0
says 'URIs: https://one.example/debian'
says 'Signed-By: /k.gpg'

cat >"$work/oneline/etc/apt/sources.list.d/bpo.list" <<'EOF'
deb https://one.example/debian bookworm-backports main
EOF
run oneline 0
says_not 'adding bookworm-backports'
says 'qemu-system-x86/bookworm-backports'

system nomirror debian bookworm
run nomirror 2
says 'no entry for bookworm was found'

system thirteen debian trixie
run thirteen 0
says_not backports
says 'qemu-system-x86'
says_not 'clang-19'
says_not codespell

run thirteen 0 --lint
says 'qemu-system-x86'
says 'zlib1g-dev codespell'

system other fedora forty
run other 2
says 'by hand'
says 'libelf'

run thirteen 0 --kernel-build
says 'flex bison bc dwarves xz-utils libelf-dev'
says_not qemu-system

run thirteen 2 --clang
says 'No clang >= 17'
printf '#!/bin/sh\necho 18.1.8\n' >"$work/bin/clang-18"
chmod +x "$work/bin/clang-18"
run thirteen 0 --clang
[ "$(cat "$work/out")" = clang-18 ] || fail "the clang that was found is not printed"

code=0
"$here/deps.sh" --nonsense >"$work/out" 2>&1 || code=$?
[ "$code" -eq 1 ] || fail "an unknown option: exit $code, wanted 1"
passed=$((passed + 1))
echo "$passed passed, 0 failed"
