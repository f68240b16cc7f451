//! Passes the path of the mailbox's sources to the build script of `ktstr-guest`, which hashes the sources of both
//! crates to identify the guest of a template. The path differs between a checkout and a registry.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let package = std::env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
    println!("cargo::metadata=sources={package}/src");
}
