//! The program that is PID 1 of the guest. Cargo runs it as the build script of this crate, and then the program copies itself
//! to where the library includes it.
//!
//! A library that needs a program has no other way to get one: cargo builds no binary of a dependency, except for its build
//! script, and artifact dependencies are not stable (RFC 3028). A build script can start cargo itself, but it would have to
//! resolve the dependencies again, and would need a second target folder.

use std::hash::{DefaultHasher, Hasher};
use std::path::Path;
use std::process::Command;

/// The size of the program is a multiple of this many bytes, with zeros after its end: the time that the guest's kernel needs to
/// unpack the program depends on its size, and a few bytes of another symbol would change the schedule of each run.
const PADDED_TO: usize = 64 << 10;

fn main() {
    if ktstr_guest::init::is_guest_init() {
        ktstr_guest::init::main();
    }
    println!("cargo::rerun-if-changed=build.rs");
    let own = std::env::current_exe().expect("a running program has a path");
    let folder = std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR for build scripts");
    let copy = Path::new(&folder).join("init");
    if !strip(&own, &copy) {
        std::fs::copy(&own, &copy).expect("cargo lets a build script write to OUT_DIR");
    }
    let mut program = std::fs::read(&copy).expect("the copy was just written");
    program.resize(program.len().next_multiple_of(PADDED_TO), 0);
    std::fs::write(&copy, &program).expect("cargo lets a build script write to OUT_DIR");
    let mut hasher = DefaultHasher::new();
    hasher.write(&program);
    println!("cargo::rustc-env=KTSTR_INIT_HASH={:016x}", hasher.finish());
}

/// Copies a program without its debug information, most of which is that of the standard library, and without its build ID,
/// which would change the program whenever the debug information does. Returns `false` if the host lacks `strip`, or if it
/// fails.
fn strip(program: &Path, copy: &Path) -> bool {
    Command::new("strip")
        .args(["--strip-debug", "--remove-section=.note.gnu.build-id"])
        .arg("-o")
        .args([copy, program])
        .status()
        .is_ok_and(|status| status.success())
}
