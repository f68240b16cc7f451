//! Tests the real kernel that a user gets by default: the one that the environment names, else one from the cache, else
//! this machine's own kernel, else one that is downloaded once from Debian's archive.
#![allow(clippy::unwrap_used)]

use std::fs;

#[test]
fn the_default_kernel_has_image_symbols_and_btf() {
    let kernel = ktstr_kernel::resolve(None, &mut ktstr_kernel::progress::on_stderr())
        .unwrap_or_else(|e| panic!("{e}"));
    kernel.require_sched_ext().unwrap();
    let symbols = kernel.symbols().unwrap();
    assert!(symbols.len() > 50_000, "{} symbols", symbols.len());
    for name in [
        "_text",
        "linux_banner",
        "runqueues",
        "init_top_pgt",
        "map_idr",
        "init_task",
        "scx_root",
    ] {
        assert!(symbols.address(name).is_some(), "{name}");
    }
    assert!(kernel.btf().unwrap().find_struct("rq").is_some());
    let image = fs::metadata(&kernel.image).unwrap();
    assert!(image.len() > 1 << 20);
    assert!(kernel.id.starts_with(&kernel.release));
}
