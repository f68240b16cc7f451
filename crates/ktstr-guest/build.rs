//! Computes a hash of the sources of this crate and of ktstr-mailbox. The hash is part of the key of a template (a saved VM),
//! so a template whose PID 1 was built from other sources of these crates is not reused.

use std::collections::hash_map::DefaultHasher;
use std::hash::Hasher;
use std::path::{Path, PathBuf};

fn main() {
    let mut files = Vec::new();
    let mailbox = std::env::var_os("DEP_KTSTR_MAILBOX_SOURCES").map(PathBuf::from);
    let mailbox = mailbox.expect("the build script of ktstr-mailbox names its sources");
    for folder in [Path::new("src"), &mailbox] {
        println!("cargo::rerun-if-changed={}", folder.display());
        collect(folder, &mut files);
    }
    files.sort();
    let mut hasher = DefaultHasher::new();
    for file in &files {
        println!("cargo::rerun-if-changed={}", file.display());
        hasher.write(&std::fs::read(file).unwrap_or_default());
    }
    println!("cargo::rustc-env=KTSTR_AGENT_HASH={:016x}", hasher.finish());
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            collect(&path, files);
        } else {
            files.push(path);
        }
    }
}
