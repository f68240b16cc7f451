//! Tells the build script of `ktstr-guest` where the mailbox's sources lie, in a checkout and in a registry alike: a
//! saved guest is known by the sources of both.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let package = std::env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
    println!("cargo::metadata=sources={package}/src");
}
