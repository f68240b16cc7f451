// SPDX-License-Identifier: GPL-2.0-only
//! Compiles the BPF part with clang and generates its Rust skeleton.

use anyhow::{Context, Result, bail};
use libbpf_cargo::SkeletonBuilder;
use std::env;
use std::path::{Component, Path, PathBuf};
use std::process::Command;

/// The oldest clang whose BPF back end is known to compile the sources.
const MIN_CLANG: u32 = 17;

/// The compilers to try, in this order, if the environment does not name one: first the version that the project is
/// tested with, then those that distributions ship.
const CLANGS: [&str; 8] = [
    "clang-19", "clang-20", "clang-21", "clang-22", "clang-18", "clang-17", "clang", "clang-23",
];

const SOURCE_DIR: &str = "src/bpf";

/// The BPF instruction set: v3 has 32-bit arithmetic, and atomics that return the old value (kernel 5.12). Clang before 20
/// defaults to v1.
const BPF_CPU: &str = "-mcpu=v3";

fn main() -> Result<()> {
    for var in ["BPF_CLANG", "PATH"] {
        println!("cargo:rerun-if-env-changed={var}");
    }
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed={SOURCE_DIR}");

    let clang = find_clang()?;
    let out_dir = PathBuf::from(env::var_os("OUT_DIR").context("cargo sets OUT_DIR")?);
    let package =
        PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").context("cargo sets CARGO_MANIFEST_DIR")?);
    // libbpf derives map names from the object's file name: "bpf" yields `bpf_bpf.bss`, the name under which readers
    // outside of the guest look for the globals.
    SkeletonBuilder::new()
        .source(Path::new(SOURCE_DIR).join("main.bpf.c"))
        .obj(out_dir.join("bpf.bpf.o"))
        .clang(clang)
        .clang_args([
            BPF_CPU,
            "-Wall",
            "-Werror",
            // The line information has the paths of the source files, and the guest's kernel copies and checks it when it
            // loads the program. A longer path takes more instructions, and so more time of the virtual clock.
            &format!("-ffile-prefix-map={}=scx-ktstr", package.display()),
        ])
        .reference_obj(true)
        .rustfmt("disable_rustfmt")
        .build_and_generate(out_dir.join("bpf_skel.rs"))
        .context("the BPF part of scx-ktstr does not build")?;
    let skeleton = relative(&out_dir, &package.join("src")).join("bpf_skel.rs");
    println!("cargo:rustc-env=SCX_KTSTR_SKELETON={}", skeleton.display());
    Ok(())
}

/// Returns the path of `to` relative to the folder `from`, both given as absolute paths. The skeleton is included by this
/// relative path, because the panic messages in the skeleton contain the path. The binary is then the same in whatever
/// folder the workspace is, as long as the target folder is inside it.
fn relative(to: &Path, from: &Path) -> PathBuf {
    let shared = to
        .components()
        .zip(from.components())
        .take_while(|(a, b)| a == b)
        .count();
    let up = from.components().skip(shared).map(|_| Component::ParentDir);
    up.chain(to.components().skip(shared)).collect()
}

/// Returns `BPF_CLANG`, or the first of [`CLANGS`] that is new enough.
fn find_clang() -> Result<String> {
    let named = env::var("BPF_CLANG").ok();
    if let Some(named) = named.filter(|named| !named.is_empty()) {
        return match clang_version(&named) {
            Some(version) if version >= MIN_CLANG => Ok(named),
            Some(version) => bail!(
                "BPF_CLANG={named} is clang {version}; scx-ktstr needs clang {MIN_CLANG} or newer"
            ),
            None => bail!("BPF_CLANG={named} does not answer to --version like a clang"),
        };
    }
    let mut seen = Vec::new();
    for name in CLANGS {
        match clang_version(name) {
            Some(version) if version >= MIN_CLANG => return Ok(name.to_owned()),
            Some(version) => seen.push(format!("{name} is version {version}")),
            None => seen.push(format!("{name} not found")),
        }
    }
    bail!(
        "scx-ktstr needs clang {MIN_CLANG} or newer to compile its BPF part.\n\
         Searched in PATH: {}.\n\
         Install one (Debian, Ubuntu: `apt-get install clang-19`; Fedora: `dnf install clang`), \
         or name one with BPF_CLANG=/path/to/clang.",
        seen.join(", ")
    )
}

/// Returns the major version that a compiler prints, as in "… clang version 19.1.7 (…)"; `None` if it does not run or
/// is not clang.
fn clang_version(clang: &str) -> Option<u32> {
    let out = Command::new(clang).arg("--version").output().ok()?;
    let text = String::from_utf8(out.stdout).ok()?;
    let rest = text.split_once("clang version ")?.1;
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}
