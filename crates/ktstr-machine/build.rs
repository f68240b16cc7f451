//! Builds the QEMU plugin with the compiler that builds this crate, so that `virtual_clock.rs` can embed it.

use std::path::PathBuf;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=plugin");
    let out = PathBuf::from(std::env::var_os("OUT_DIR").unwrap_or_default());
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let status = Command::new(rustc)
        .args(["--edition", "2024", "--crate-type", "cdylib"])
        .args(["--crate-name", "ktstr_plugin"])
        .args([
            "-C",
            "panic=abort",
            "-C",
            "opt-level=2",
            "-C",
            "strip=symbols",
        ])
        // The plugin is preloaded into whatever starts QEMU, including the shell of a wrapper script, which has none of
        // QEMU's functions. These must therefore be bound lazily, at their first call.
        .args(["-C", "relro-level=off", "-C", "link-arg=-Wl,-z,lazy"])
        .arg("-o")
        .arg(out.join("ktstr-plugin.so"))
        .arg("plugin/lib.rs")
        .status();
    match status {
        Ok(status) if status.success() => {}
        other => panic!("building the QEMU plugin with rustc failed: {other:?}"),
    }
}
