//! Tests of the crate as a whole, on fake kernels and without a network.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use crate::cache::{Cache, Material};
use crate::image::{self, ImageError};
use crate::kallsyms::{self, KallsymsError};
use crate::modules::{self, Module};
use crate::testing::{Encoding, VERSION_MAGIC, bzimage, bzimage_of, symbols, vmlinux};
use crate::{Kernel, KernelError, Resolver, Source};

struct Home(tempfile::TempDir);

impl Home {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }
    fn resolver(&self) -> Resolver {
        Resolver {
            cache: Cache::at(self.0.path().join("cache")),
            offline: true,
            host: self.0.path().join("no-host"),
        }
    }
    fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        path
    }
    fn resolve(&self, request: &Path) -> Result<Kernel, KernelError> {
        self.resolver().resolve(request.to_str(), &mut |_| {})
    }
    /// Returns the names of everything in the folder of kernels except its lock.
    fn entries(&self) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(self.resolver().cache.kernels())
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .filter(|n| n != ".lock")
            .collect();
        names.sort();
        names
    }
}

fn made() -> Vec<u8> {
    bzimage(&vmlinux(&symbols(700), Encoding::Place))
}

#[test]
fn a_bzimage_becomes_a_whole_entry() {
    let home = Home::new();
    let path = home.file("vmlinuz", &made());
    let kernel = home.resolve(&path).unwrap();
    assert_eq!(kernel.release, "9.9.1+made-cloud-amd64");
    assert_eq!(home.entries(), std::slice::from_ref(&kernel.id));
    assert!(kernel.has_sched_ext && kernel.has_btf);
    assert_eq!(kernel.btf_bytes().unwrap(), b"made BTF");
    assert_eq!(
        kernel.symbols().unwrap().address("scx_root"),
        Some(0xffff_ffff_8110_0000)
    );
    assert_eq!(fs::read(&kernel.image).unwrap(), fs::read(&path).unwrap());
    assert!(fs::read(&kernel.vmlinux).unwrap().starts_with(b"\x7fELF"));
    // From now on the kernel is found without a request, by version and by id. The original image
    // is not needed any more.
    fs::remove_file(path).unwrap();
    for request in [None, Some("9.9"), Some(kernel.id.as_str())] {
        let again = home.resolver().resolve(request, &mut |_| {}).unwrap();
        assert_eq!(again, kernel, "{request:?}");
    }
}

#[test]
fn a_path_into_the_cache_is_the_cached_kernel() {
    let home = Home::new();
    let kernel = home.resolve(&home.file("vmlinuz", &made())).unwrap();
    for path in [&kernel.image, &kernel.vmlinux, &kernel.dir().to_owned()] {
        assert_eq!(home.resolve(path).unwrap(), kernel, "{}", path.display());
    }
    assert_eq!(home.entries(), std::slice::from_ref(&kernel.id));
}

#[test]
fn a_vmlinux_and_a_package_folder_are_accepted() {
    let home = Home::new();
    let elf = home.file("vmlinux", &vmlinux(&symbols(10), Encoding::Base));
    assert_eq!(
        home.resolve(&elf).unwrap().release,
        "9.9.1+made-cloud-amd64"
    );
    home.file("pkg/boot/vmlinuz-9.9.1+made", &made());
    home.file(
        "pkg/boot/config-9.9.1+made",
        b"CONFIG_SMP=y\nCONFIG_SCHED_CLASS_EXT=y\n",
    );
    home.file("pkg/usr/lib/modules/9.9.1+made/kernel/x.ko", b"");
    let kernel = home.resolve(&home.0.path().join("pkg")).unwrap();
    assert!(
        kernel
            .config
            .is_some_and(|c| c.starts_with(home.0.path().join("cache")))
    );
    assert!(
        kernel
            .modules
            .unwrap()
            .ends_with("pkg/usr/lib/modules/9.9.1+made")
    );
}

#[test]
fn a_replaced_kernel_and_a_release_candidate_are_not_the_newest_of_a_folder() {
    let home = Home::new();
    home.file("pkg/boot/vmlinuz-9.9.1", &made());
    for older in ["vmlinuz-9.9.1.old", "vmlinuz-9.9.1-rc2"] {
        home.file(&format!("pkg/boot/{older}"), b"no kernel");
    }
    let kernel = home.resolve(&home.0.path().join("pkg")).unwrap();
    assert_eq!(kernel.release, "9.9.1+made-cloud-amd64");
}

/// The release of a kernel that was built with `CONFIG_PREEMPT_RT` need not show it.
#[test]
fn a_real_time_kernel_is_chosen_last() {
    let home = Home::new();
    home.resolve(&home.file("vmlinuz", &made())).unwrap();
    let mut real_time = made();
    let text = b"9.9.2 (made@example) #1 SMP PREEMPT_RT\0";
    real_time[0x300..0x300 + text.len()].copy_from_slice(text);
    let newer = home.resolve(&home.file("rt", &real_time)).unwrap();
    assert_eq!(newer.release, "9.9.2");
    let chosen = home.resolver().resolve(None, &mut |_| {}).unwrap();
    assert_eq!(chosen.release, "9.9.1+made-cloud-amd64");
}

#[test]
fn a_built_tree_gives_the_kernel_that_was_built_last() {
    let home = Home::new();
    let elf = home.file("tree/vmlinux", &vmlinux(&symbols(10), Encoding::Base));
    let image = home.file("tree/arch/x86/boot/bzImage", &made());
    let at = |seconds| std::time::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
    let write_at = |path: &Path, seconds| {
        let file = fs::File::options().write(true).open(path).unwrap();
        file.set_modified(at(seconds)).unwrap();
    };
    write_at(&image, 1_000_000);
    for (written, newest) in [(999_999, &image), (1_000_001, &elf)] {
        write_at(&elf, written);
        let kernel = home.resolve(&home.0.path().join("tree")).unwrap();
        assert_eq!(fs::read(&kernel.image).unwrap(), fs::read(newest).unwrap());
    }
}

#[test]
fn a_configuration_found_later_is_added() {
    let home = Home::new();
    let path = home.file("vmlinuz-9.9.1", &made());
    let before = home.resolve(&path).unwrap();
    assert_eq!(before.config, None);
    home.file("config-9.9.1", b"CONFIG_SCHED_CLASS_EXT=y\n");
    let after = home.resolve(&path).unwrap();
    assert_eq!(
        fs::read(after.config.unwrap()).unwrap(),
        b"CONFIG_SCHED_CLASS_EXT=y\n"
    );
    assert_eq!(home.entries(), [before.id]);
}

#[test]
fn an_invalid_image_is_rejected_with_a_reason() {
    let home = Home::new();
    let mut cut = made();
    cut.truncate(2000);
    let cases: [(&[u8], &str); 6] = [
        (b"", "an empty file"),
        (b"hello", "a text file"),
        (&cut, "cut short after 2000 bytes"),
        (
            &bzimage_of(b"\x28\xb5\x2f\xfdgarbage"),
            "damaged zstd payload",
        ),
        (&bzimage_of(b"nothing known"), "payload of unknown format"),
        (b"\x7fELFjunk", "cannot be read as 64-bit"),
    ];
    for (bytes, found) in cases {
        let error = home.resolve(&home.file("x", bytes)).unwrap_err();
        assert!(matches!(error, KernelError::NotAKernel { .. }), "{error}");
        assert!(error.to_string().contains(found), "{error}");
        assert_eq!(error.exit_code(), 1);
    }
    let error = home
        .resolve(&home.file("x", &bzimage_of(b"\xfd7zXZ\0")))
        .unwrap_err();
    assert!(error.to_string().contains("compressed with xz"), "{error}");
    assert_eq!(home.entries(), [""; 0]);
    let error = home.resolve(Path::new("/no/such/kernel")).unwrap_err();
    assert_eq!(error.exit_code(), 1);
}

#[test]
fn a_decompression_bomb_is_not_unpacked() {
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    std::io::Write::write_all(&mut packer, &vec![0_u8; (1 << 20) + 1]).unwrap();
    let packed = packer.finish().unwrap();
    let unpack = |limit| {
        image::read_all(
            flate2::read::GzDecoder::new(&packed[..]),
            &packed,
            "gzip",
            limit,
        )
    };
    assert_eq!(unpack(2 << 20).unwrap().len(), (1 << 20) + 1);
    assert_eq!(
        unpack(1 << 20).unwrap_err(),
        ImageError::NotAKernel("a bzImage that unpacks to more than 1 MiB".to_owned())
    );
}

#[test]
fn a_kernel_without_sched_ext_is_rejected() {
    let home = Home::new();
    let plain = [(crate::testing::TEXT, "T_text".to_owned())];
    let path = home.file("vmlinuz", &bzimage(&vmlinux(&plain, Encoding::Base)));
    let kernel = home.resolve(&path).unwrap();
    let error = kernel.require_sched_ext().unwrap_err();
    assert_eq!(error.exit_code(), 1);
    assert!(
        error.to_string().contains("cargo ktstr kernel fetch"),
        "{error}"
    );
    // Such a kernel is not chosen when there is no request.
    let error = home.resolver().resolve(None, &mut |_| {}).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("none of its kernels (1) has sched_ext"),
        "{error}"
    );
}

#[test]
fn an_offline_error_names_the_searched_places() {
    let home = Home::new();
    let error = home.resolver().resolve(None, &mut |_| {}).unwrap_err();
    assert_eq!(error.exit_code(), 2);
    let text = error.to_string();
    for place in [
        "KTSTR_OFFLINE",
        "the cache ",
        "this machine's own kernel: ",
        "Debian's archive: not queried",
    ] {
        assert!(text.contains(place), "{place} in {text}");
    }
    let error = home
        .resolver()
        .resolve(Some("debian:7.3"), &mut |_| {})
        .unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("no kernel for `debian:7.3`, and KTSTR_OFFLINE"),
        "{error}"
    );
}

#[test]
fn a_damaged_entry_is_detected_and_created_again() {
    let home = Home::new();
    let path = home.file("vmlinuz", &made());
    let kernel = home.resolve(&path).unwrap();
    for damage in ["btf", "kernel.json", "vmlinux"] {
        fs::write(kernel.dir().join(damage), b"{").unwrap();
        let (whole, damaged) = home.resolver().cache.scan().unwrap();
        assert!(whole.is_empty() && damaged[0].id == kernel.id, "{damage}");
        let error = home.resolver().resolve(None, &mut |_| {}).unwrap_err();
        assert!(error.to_string().contains("is damaged: its "), "{error}");
        assert_eq!(home.resolve(&path).unwrap(), kernel);
        assert_eq!(home.entries(), std::slice::from_ref(&kernel.id));
    }
    home.resolver().cache.remove(&kernel.id).unwrap();
    assert_eq!(home.entries(), [""; 0]);
    assert_eq!(
        home.resolver()
            .cache
            .remove(&kernel.id)
            .unwrap_err()
            .exit_code(),
        1
    );
    assert!(home.resolver().cache.remove("../cache").is_err());
}

#[test]
fn a_file_changed_after_the_import_is_detected() {
    let home = Home::new();
    let path = home.file("vmlinuz", &made());
    let kernel = home.resolve(&path).unwrap();
    assert_eq!(kernel.boot, kernel.vmlinux);
    let mut bytes = fs::read(&kernel.boot).unwrap();
    let times = fs::metadata(&kernel.boot).unwrap().modified().unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&kernel.boot, &bytes).unwrap();
    let file = fs::File::options().append(true).open(&kernel.boot).unwrap();
    file.set_modified(times).unwrap();
    let (whole, damaged) = home.resolver().cache.scan().unwrap();
    assert!(whole.is_empty());
    assert!(
        damaged[0]
            .reason
            .starts_with("its vmlinux was changed after the import: SHA-256 "),
        "{damaged:?}"
    );
    // A request by the path of the original image imports the kernel again.
    let again = home.resolve(&path).unwrap();
    assert_eq!(again, kernel);
    assert_eq!(again.boot_sha256, hash_of(&again.boot));
}

fn hash_of(path: &Path) -> String {
    use sha2::{Digest, Sha256};
    crate::cache::hex(&Sha256::digest(fs::read(path).unwrap()))
}

#[test]
fn a_copied_cache_is_hashed_once_and_then_recorded() {
    let home = Home::new();
    let kernel = home.resolve(&home.file("vmlinuz", &made())).unwrap();
    let copied = home.file("copy", b"");
    fs::copy(&kernel.boot, &copied).unwrap();
    fs::rename(&copied, &kernel.boot).unwrap();
    let stamps = kernel.dir().join("stamps.json");
    let before = fs::read(&stamps).unwrap();
    assert_eq!(home.resolver().cache.scan().unwrap().0, [kernel]);
    assert_ne!(fs::read(&stamps).unwrap(), before);
}

#[test]
fn a_kernel_without_a_pvh_entry_boots_from_its_image() {
    let home = Home::new();
    let mut elf = vmlinux(&symbols(10), Encoding::Base);
    let note = memchr::memmem::find(&elf, b"Xen\0").unwrap();
    elf[note] = b'Y';
    let kernel = home.resolve(&home.file("vmlinuz", &bzimage(&elf))).unwrap();
    assert_eq!(kernel.boot, kernel.image);
    assert_eq!(kernel.boot_sha256, kernel.image_sha256);
    // The ELF alone cannot be booted.
    let error = home.resolve(&home.file("vmlinux", &elf)).unwrap_err();
    assert!(error.to_string().contains("CONFIG_PVH=y"), "{error}");
}

#[test]
fn an_invalid_request_is_rejected_with_a_reason() {
    let home = Home::new();
    fs::create_dir(home.0.path().join("folder")).unwrap();
    home.file("script", b"#!/bin/sh\nexec true\n");
    home.file("linux/Kconfig", b"");
    home.file("linux/arch/x86/Kconfig", b"");
    for (name, says) in [
        ("nothing", "there is no such file or folder"),
        ("folder", "a folder that contains none of "),
        ("script", "a script (no `HdrS` boot header"),
        ("linux", "nothing was built; run `cargo ktstr kernel build "),
    ] {
        let error = home.resolve(&home.0.path().join(name)).unwrap_err();
        assert_eq!(error.exit_code(), 1, "{name}");
        let text = error.to_string();
        assert!(text.contains(says) && text.contains(name), "{name}: {text}");
    }
}

#[test]
fn a_built_tree_is_accepted() {
    let home = Home::new();
    home.file("linux/arch/x86/boot/bzImage", &made());
    home.file("linux/.config", b"CONFIG_SCHED_CLASS_EXT=y\n");
    let kernel = home.resolve(&home.0.path().join("linux")).unwrap();
    assert!(kernel.has_sched_ext && kernel.config.is_some());
}

#[test]
fn many_importers_make_one_entry() {
    let home = Home::new();
    let path = home.file("vmlinuz", &made());
    let made_by = thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| {
                    let mut stages = 0;
                    home.resolver()
                        .resolve(path.to_str(), &mut |news| stages += usize::from(news.done))
                        .unwrap();
                    stages
                })
            })
            .collect();
        threads
            .into_iter()
            .map(|t| t.join().unwrap())
            .sum::<usize>()
    });
    assert_eq!(made_by, 1, "one thread unpacked, the others waited");
    assert_eq!(home.entries().len(), 1);
}

/// Not a test by itself: `a_killed_importer_leaves_nothing` runs it in a child process, which it kills.
#[test]
fn child_that_imports() {
    let Some(home) = std::env::var_os("KTSTR_KERNEL_TEST_IMPORT") else {
        return;
    };
    let home = PathBuf::from(home);
    let material = Material {
        image: home.join("vmlinuz"),
        config: None,
        source: Source::Path(home.join("vmlinuz")),
    };
    loop {
        let cache = Cache::at(home.join("cache"));
        let kernel = cache.import(&material, &mut |_| {}).unwrap();
        cache.remove(&kernel.id).unwrap();
    }
}

#[test]
fn a_killed_importer_leaves_nothing() {
    let home = Home::new();
    let path = home.file("vmlinuz", &made());
    let temporary = || -> BTreeSet<OsString> {
        let entries = fs::read_dir(home.resolver().cache.kernels());
        let names = entries.into_iter().flatten().flatten();
        names
            .map(|entry| entry.file_name())
            .filter(|name| name.to_string_lossy().starts_with(".making-"))
            .collect()
    };
    for delay_ms in [0, 15, 30, 45, 60, 75, 90, 105] {
        let left = temporary();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "tests::child_that_imports"])
            .env("KTSTR_KERNEL_TEST_IMPORT", home.0.path())
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        // A new temporary folder shows that the child has begun to import. From then on it imports again and again.
        let began = Instant::now();
        while temporary().is_subset(&left) {
            assert!(began.elapsed() < Duration::from_secs(60), "no import");
            assert_eq!(child.try_wait().unwrap(), None);
            thread::sleep(Duration::from_millis(1));
        }
        thread::sleep(Duration::from_millis(delay_ms));
        child.kill().unwrap();
        child.wait().unwrap();
        // Every folder whose name is not that of a temporary folder is a complete entry.
        assert!(home.resolver().cache.scan().unwrap().1.is_empty());
    }
    let kernel = home.resolve(&path).unwrap();
    home.resolver().cache.remove(&kernel.id).unwrap();
    assert_eq!(
        home.entries(),
        [""; 0],
        "leftovers of killed writers are removed"
    );
}

/// Fills a real file system: a small tmpfs in a separate mount namespace, so that nothing is left behind.
#[test]
fn a_full_disk_is_reported_and_leaves_nothing() {
    if let Some(home) = std::env::var_os("KTSTR_KERNEL_TEST_FULL") {
        let home = PathBuf::from(home);
        let resolver = Resolver {
            cache: Cache::at(home.join("small")),
            offline: true,
            host: home.clone(),
        };
        let error = resolver
            .resolve(home.join("vmlinuz").to_str(), &mut |_| {})
            .unwrap_err();
        assert!(matches!(error, KernelError::DiskFull { .. }), "{error}");
        assert_eq!(error.exit_code(), 2);
        assert!(error.to_string().contains("KTSTR_CACHE_DIR"), "{error}");
        let left: Vec<_> = fs::read_dir(home.join("small/kernels"))
            .unwrap()
            .map(|e| e.unwrap().file_name())
            .collect();
        assert_eq!(left, [".lock"]);
        return;
    }
    let home = Home::new();
    home.file("vmlinuz", &made());
    fs::create_dir(home.0.path().join("small")).unwrap();
    let script = "mount -t tmpfs -o size=16k,mode=700 none \"$KTSTR_KERNEL_TEST_FULL/small\" && exec \"$0\" --exact \
                  tests::a_full_disk_is_reported_and_leaves_nothing";
    let mounting = |command: &[&str]| {
        let mut unshare = Command::new("unshare");
        unshare.args(["--user", "--map-root-user", "--mount"]);
        unshare.args(command);
        unshare.env("KTSTR_KERNEL_TEST_FULL", home.0.path());
        unshare
    };
    let probe = mounting(&["mount", "-t", "tmpfs", "none"])
        .arg(home.0.path().join("small"))
        .output();
    let refused = match probe {
        Ok(probe) if probe.status.success() => None,
        Ok(probe) => Some(String::from_utf8_lossy(&probe.stderr).trim().to_owned()),
        Err(error) => Some(error.to_string()),
    };
    if let Some(why) = refused {
        return eprintln!(
            "skipped: unshare(1) cannot mount a file system in a user namespace here ({why}); allow user namespaces \
             (user.max_user_namespaces, kernel.unprivileged_userns_clone, kernel.apparmor_restrict_unprivileged_userns)"
        );
    }
    let output = mounting(&["sh", "-c", script])
        .arg(std::env::current_exe().unwrap())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn every_encoding_of_symbols_is_read() {
    for encoding in [Encoding::AbsolutePercpu, Encoding::Base, Encoding::Place] {
        for more in [0, 1, 252, 253, 600] {
            let mut expected = symbols(more);
            if encoding == Encoding::AbsolutePercpu {
                expected.insert(0, (0x1f000, "Aper_cpu".to_owned()));
            }
            let found: Vec<(u64, String)> = kallsyms::decode(&vmlinux(&expected, encoding))
                .unwrap_or_else(|e| panic!("{encoding:?} {more}: {e}"))
                .into_iter()
                .map(|s| (s.address, format!("{}{}", s.kind, s.name)))
                .collect();
            assert_eq!(found, expected, "{encoding:?} {more}");
        }
    }
}

#[test]
fn missing_tables_are_distinguished_from_damaged_ones() {
    let good = vmlinux(&symbols(600), Encoding::Place);
    let digits = memchr::memmem::find(&good, b"0\x001\x002\x00").unwrap();
    let mut none = good.clone();
    none[digits] = b'x';
    assert_eq!(kallsyms::decode(&none), Err(KallsymsError::NotFound));
    let mut bad = good;
    let name = memchr::memmem::find(&bad, b"made_300").unwrap();
    // Before the name are the length of the entry, the type `d`, and the token of `scx_`. Set the length to 0.
    bad[name - 3] = 0;
    assert!(matches!(
        kallsyms::decode(&bad),
        Err(KallsymsError::Damaged(_))
    ));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn hostile_images_are_rejected_or_read(
        holes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..40),
        keep in any::<prop::sample::Index>(),
        cut in any::<bool>(),
    ) {
        let mut elf = vmlinux(&symbols(300), Encoding::Place);
        let mut packed = bzimage_of(&elf);
        for bytes in [&mut elf, &mut packed] {
            for (at, value) in &holes {
                let at = at.index(bytes.len());
                bytes[at] = *value;
            }
            if cut {
                bytes.truncate(keep.index(bytes.len()));
            }
            let _ = image::open(bytes);
        }
        let _ = kallsyms::decode(&elf);
        let _ = image::btf(&elf);
        let _ = image::embedded_config(&elf);
    }

    #[test]
    fn hostile_tables_are_rejected_or_read(
        holes in prop::collection::vec((0_usize..9000, any::<u8>()), 1..8),
    ) {
        let mut elf = vmlinux(&symbols(300), Encoding::Base);
        for (at, value) in holes {
            // The tables start at this offset in the file of a fake kernel.
            if let Some(byte) = elf.get_mut(0x1200 + at) {
                *byte = value;
            }
        }
        let _ = kallsyms::decode(&elf);
    }
}

const CONFIGFS: Module = Module {
    option: "CONFIG_CONFIGFS_FS",
    path: "fs/configfs/configfs.ko",
};
const NULL_BLK: Module = Module {
    option: "CONFIG_BLK_DEV_NULL_BLK",
    path: "drivers/block/null_blk/null_blk.ko",
};

/// Returns a module that the fake kernel accepts.
fn module(content: &str) -> Vec<u8> {
    format!("\x7fELF\0vermagic={VERSION_MAGIC}\0{content}").into_bytes()
}

/// Returns the kernel of a package folder with this configuration, and with these modules below `kernel/`.
fn with_modules(home: &Home, config: &str, modules: &[(&str, &[u8])]) -> Kernel {
    home.file("pkg/boot/vmlinuz-9.9.1+made", &made());
    home.file("pkg/boot/config-9.9.1+made", config.as_bytes());
    for (path, content) in modules {
        home.file(
            &format!("pkg/usr/lib/modules/9.9.1+made/kernel/{path}"),
            content,
        );
    }
    home.resolve(&home.0.path().join("pkg")).unwrap()
}

fn files_of(home: &Home, kernel: &Kernel) -> Result<Vec<PathBuf>, KernelError> {
    let cache = home.resolver().cache;
    modules::files(kernel, &[CONFIGFS, NULL_BLK], &cache, true, &mut |_| {})
}

#[test]
fn modules_are_copied_decompressed_and_built_in_ones_are_left_out() {
    let home = Home::new();
    let packed = home.file("packed.ko", &module("the module"));
    let run = std::process::Command::new("xz").arg(&packed).status();
    assert!(run.unwrap().success());
    let packed = fs::read(home.0.path().join("packed.ko.xz")).unwrap();
    let kernel = with_modules(
        &home,
        "CONFIG_CONFIGFS_FS=y\nCONFIG_BLK_DEV_NULL_BLK=m\n",
        &[("drivers/block/null_blk/null_blk.ko.xz", &packed)],
    );
    let files = files_of(&home, &kernel).unwrap();
    assert_eq!(files.len(), 1);
    assert!(files[0].ends_with("null_blk.ko"));
    assert_eq!(fs::read(&files[0]).unwrap(), module("the module"));
    // From now on the copy is used, and it is removed together with the kernel's entry.
    fs::remove_dir_all(home.0.path().join("pkg/usr")).unwrap();
    assert_eq!(files_of(&home, &kernel).unwrap(), files);
    home.resolver().cache.remove(&kernel.id).unwrap();
    assert!(!files[0].exists());
}

#[test]
fn a_module_that_is_missing_is_named_with_its_option() {
    let home = Home::new();
    let kernel = with_modules(
        &home,
        "CONFIG_CONFIGFS_FS=m\nCONFIG_BLK_DEV_NULL_BLK=m\n",
        &[("fs/configfs/configfs.ko", &module("the module"))],
    );
    let error = files_of(&home, &kernel).unwrap_err();
    assert_eq!(error.exit_code(), 1);
    let text = error.to_string();
    for part in [
        "null_blk.ko",
        "usr/lib/modules",
        "CONFIG_BLK_DEV_NULL_BLK=y",
    ] {
        assert!(text.contains(part), "no {part} in {text}");
    }
    let home = Home::new();
    let without = with_modules(&home, "CONFIG_SMP=y\n", &[("x.ko", b"")]);
    let text = files_of(&home, &without).unwrap_err().to_string();
    assert!(text.contains("its configuration does not set it"), "{text}");
}

const MODULES: &str = "CONFIG_CONFIGFS_FS=y\nCONFIG_BLK_DEV_NULL_BLK=m\n";
const NULL_BLK_KO: &str = "drivers/block/null_blk/null_blk.ko";

/// Returns the kernel of a build tree with the given number of symbols, and with a module of this content.
fn built(home: &Home, more: usize, content: &str) -> Kernel {
    let image = bzimage(&vmlinux(&symbols(more), Encoding::Place));
    home.file("tree/arch/x86/boot/bzImage", &image);
    home.file("tree/.config", MODULES.as_bytes());
    home.file(&format!("tree/{NULL_BLK_KO}"), &module(content));
    home.resolve(&home.0.path().join("tree")).unwrap()
}

#[test]
fn a_module_that_was_built_again_replaces_its_copy() {
    let home = Home::new();
    let kernel = built(&home, 700, "first");
    let files = files_of(&home, &kernel).unwrap();
    assert_eq!(fs::read(&files[0]).unwrap(), module("first"));
    // The image is the same, as after a change to the module alone.
    let again = built(&home, 700, "second build");
    assert_eq!(again.id, kernel.id);
    let files = files_of(&home, &again).unwrap();
    assert_eq!(fs::read(&files[0]).unwrap(), module("second build"));
}

#[test]
fn a_kernel_does_not_get_the_modules_of_a_later_build_in_its_tree() {
    let home = Home::new();
    let first = built(&home, 700, "first");
    let copied = files_of(&home, &first).unwrap();
    let second = built(&home, 800, "second build");
    assert_eq!(second.release, first.release);
    // The first kernel keeps the copy of its own module, although the tree has another module now.
    assert_eq!(files_of(&home, &first).unwrap(), copied);
    assert_eq!(fs::read(&copied[0]).unwrap(), module("first"));
    let files = files_of(&home, &second).unwrap();
    assert_eq!(fs::read(&files[0]).unwrap(), module("second build"));
    // Without a copy, the module of the first build exists no more.
    let first = home.resolve(Path::new(&first.id)).unwrap();
    fs::remove_dir_all(copied[0].parent().unwrap()).unwrap();
    let text = files_of(&home, &first).unwrap_err().to_string();
    for part in ["no longer has this kernel", "KTSTR_KERNEL=", "/tree"] {
        assert!(text.contains(part), "no {part} in {text}");
    }
}

#[test]
fn a_module_of_another_kernel_is_refused() {
    let home = Home::new();
    let other = b"\0vermagic=9.9.1+made-cloud-amd64 SMP preempt mod_unload \0";
    for (content, reason) in [
        (other.as_slice(), "SMP preempt mod_unload"),
        (b"".as_slice(), "no version magic"),
    ] {
        let kernel = with_modules(&home, MODULES, &[(NULL_BLK_KO, content)]);
        let text = files_of(&home, &kernel).unwrap_err().to_string();
        assert!(
            text.contains(reason) && text.contains(NULL_BLK_KO),
            "{text}"
        );
    }
    let kernel = with_modules(&home, MODULES, &[(NULL_BLK_KO, &module("good"))]);
    files_of(&home, &kernel).unwrap();
}

#[test]
fn a_copy_that_was_cut_short_is_replaced_with_a_note() {
    let home = Home::new();
    let kernel = with_modules(&home, MODULES, &[(NULL_BLK_KO, &module("whole"))]);
    let files = files_of(&home, &kernel).unwrap();
    fs::write(&files[0], b"").unwrap();
    let mut notes = Vec::new();
    let cache = home.resolver().cache;
    modules::files(&kernel, &[NULL_BLK], &cache, true, &mut |news| {
        notes.push(news.what.clone());
    })
    .unwrap();
    assert_eq!(fs::read(&files[0]).unwrap(), module("whole"));
    assert!(
        notes
            .iter()
            .any(|note| note.contains("null_blk.ko was changed")),
        "{notes:?}"
    );
}
