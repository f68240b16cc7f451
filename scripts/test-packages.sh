#!/bin/sh
# Tries the crates as a registry would serve them: publishes all of them without uploading any, makes a directory source
# of these packages and of what they depend on, and, in folders outside the checkout,
#   1. installs the packaged cargo-ktstr, and runs its demo in an empty folder with the scheduler that came with it;
#   2. builds a crate that depends on the packaged ktstr, and runs its test in a virtual machine.
# This compiles every crate from its package, so the dry run of publishing does not have to compile it (--no-verify).
#
# Exit: 0 all passed; else the exit code of what failed.
# Needs: what `make deps` installs, and a registry: cargo asks its index what is published, and cannot do so offline.
set -eu
cd "$(dirname "$0")/.."
root=$PWD
cargo=${CARGO:-cargo}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
say() { printf -- '-- %s\n' "$*"; }

say "publish every crate of the workspace, without uploading it"
$cargo publish --workspace --dry-run --no-verify --allow-dirty --quiet --target-dir "$work/published"

say "package every crate of the workspace"
packages=$work/target
$cargo package --workspace --no-verify --allow-dirty --quiet --target-dir "$packages"
for package in "$packages"/package/*.crate; do
    tar -tzf "$package" | grep -q '/LICENSE' || {
        echo "$(basename "$package") holds no text of its licence" >&2
        exit 1
    }
done

say "make a directory source of them"
source=$work/source
$cargo vendor --locked --quiet "$source" >/dev/null
for package in "$packages"/package/*.crate; do
    tar -xzf "$package" -C "$source"
    folder=$source/$(basename "$package" .crate)
    printf '{"files":{},"package":"%s"}' "$(sha256sum "$package" | cut -d' ' -f1)" >"$folder/.cargo-checksum.json"
done
cat >"$work/config.toml" <<TOML
[source.crates-io]
replace-with = "packaged"

[source.packaged]
directory = "$source"

[net]
offline = true
TOML

# The configuration is given on the command line, because `cargo install` does not look for one above the current folder.
from_packages() { $cargo --config "$work/config.toml" "$@"; }

# Nothing of the checkout may be found by accident: every command below runs in a folder below $work.
version=$($cargo metadata --no-deps --format-version 1 | sed -n 's/.*"name":"cargo-ktstr","version":"\([^"]*\)".*/\1/p')
export CARGO_TARGET_DIR="$work/build"

say "install cargo-ktstr $version and run its demo in an empty folder"
mkdir "$work/empty"
cd "$work/empty"
# Uses the profile of tests (--debug), so that the crate below can reuse the compiled dependencies.
from_packages install --debug --quiet --locked "cargo-ktstr@$version" --root "$work/root"
PATH=$work/root/bin:$PATH
export PATH
status=0
$cargo ktstr demo >"$work/demo" || status=$?
cat "$work/demo"
[ "$status" -eq 0 ] || exit "$status"
grep -q "^ *scheduler *$work/root/bin/ktstr-demo-scheduler " "$work/demo" || {
    echo "the demo ran another scheduler than the one that was installed with it" >&2
    exit 1
}

say "a crate that depends on the packaged ktstr"
mkdir -p "$work/consumer/src" "$work/consumer/tests"
cd "$work/consumer"
: >src/lib.rs
cat >Cargo.toml <<TOML
[package]
name = "consumer"
version = "0.0.0"
edition = "2024"
publish = false

[dev-dependencies]
ktstr = "$version"
TOML
cp "$root/Cargo.lock" .
cat >tests/spins.rs <<'RUST'
//! Two workers share a CPU under the kernel's own scheduler.
use ktstr::prelude::*;

#[ktstr_test(llcs = 1, cores = 1, duration_s = 1, not_stuck)]
fn spins(ctx: &Ctx) -> Result<AssertResult> {
    execute_defs(ctx, vec![CgroupDef::named("two").workers(2)])
}
RUST
from_packages test --quiet
say "ok"
