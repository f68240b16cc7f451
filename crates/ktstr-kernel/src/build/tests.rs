//! Builds of fake trees. Their Makefile behaves like that of a kernel, or fails in a way in which a kernel's build can fail.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use super::*;
use crate::testing::{Encoding, bzimage, symbols, vmlinux};

/// Recipes for the two targets of a kernel's Makefile that a build uses.
const WORKS: &str = "allnoconfig:\n\tcp $(KCONFIG_ALLCONFIG) $(O)/.config\nbzImage:\n\t@echo '  CC      init/main.o'\n\
                     \tmkdir -p $(O)/arch/x86/boot && cp image $(O)/arch/x86/boot/bzImage && echo x >>count\n";

struct Home(tempfile::TempDir);

impl Home {
    fn new(makefile: &str) -> Self {
        let home = Self(tempfile::tempdir().unwrap());
        home.file("tree/Makefile", makefile.as_bytes());
        home.file("tree/Kconfig", b"");
        home.file("tree/arch/x86/Kconfig", b"");
        let image = bzimage(&vmlinux(&symbols(700), Encoding::Place));
        home.file("tree/image", &image);
        home
    }
    fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        path
    }
    fn cache(&self) -> Cache {
        Cache::at(self.0.path().join("cache"))
    }
    fn build_of(&self, source: &Path, fragments: &[PathBuf]) -> Result<Kernel, KernelError> {
        self.heard_build_of(source, fragments, &mut |_| {})
    }
    fn heard_build_of(
        &self,
        source: &Path,
        fragments: &[PathBuf],
        listener: &mut Listener<'_>,
    ) -> Result<Kernel, KernelError> {
        let cache = self.cache();
        let origin = Origin::of(source.to_str().unwrap(), &cache, true, &mut |_| {})?;
        let compiler = "made".to_owned();
        Build {
            cache: &cache,
            origin: &origin,
            compiler,
        }
        .run(fragments, listener)
    }
    fn build(&self) -> Result<Kernel, KernelError> {
        self.build_of(&self.0.path().join("tree"), &[])
    }
}

#[test]
fn a_tree_is_built_once() {
    let home = Home::new(WORKS);
    let count = || {
        fs::read_to_string(home.0.path().join("tree/count"))
            .unwrap()
            .lines()
            .count()
    };
    // Each build appends to a file in the tree, and so changes the tree.
    let kernel = home.build().unwrap();
    assert!(kernel.config.is_some() && matches!(kernel.source, Source::Built { .. }));
    home.build().unwrap();
    assert_eq!(count(), 2, "a changed tree is built again");
}

#[test]
fn an_older_file_in_place_of_a_newer_one_is_built() {
    let rule = "allnoconfig:\n\tcp $(KCONFIG_ALLCONFIG) $(O)/.config\nbzImage: $(O)/arch/x86/boot/bzImage\n\
                $(O)/arch/x86/boot/bzImage: image\n\tmkdir -p $(O)/arch/x86/boot && cp image $@\n";
    let home = Home::new(rule);
    let first = home.build().unwrap();
    let other = bzimage(&vmlinux(&symbols(900), Encoding::Place));
    let image = home.file("tree/image", &other);
    let long_ago = std::time::SystemTime::now() - Duration::from_secs(86400);
    let image = fs::File::options().append(true).open(image).unwrap();
    image.set_modified(long_ago).unwrap();
    let second = home.build().unwrap();
    assert_ne!(second.boot_sha256, first.boot_sha256);
}

#[test]
fn a_build_with_the_same_inputs_comes_from_the_cache() {
    let home =
        Home::new(&WORKS.replace(" && echo x >>count", " && echo x >>$(O)/../../../../count"));
    let count = || {
        fs::read_to_string(home.0.path().join("count"))
            .unwrap()
            .lines()
            .count()
    };
    let first = home.build().unwrap();
    assert_eq!((home.build().unwrap(), count()), (first, 1));
    let fragment = home.file("extra", b"CONFIG_HZ_1000=y\nCONFIG_HZ_250=n\n");
    let tree = home.0.path().join("tree");
    let other = home
        .build_of(&tree, std::slice::from_ref(&fragment))
        .unwrap();
    assert_eq!(count(), 2, "another configuration is another kernel");
    let config = fs::read_to_string(other.config.unwrap()).unwrap();
    assert!(config.contains("CONFIG_HZ_1000=y\n"), "{config}");
    assert!(config.contains("# CONFIG_HZ_250 is not set\n"), "{config}");
}

#[test]
fn the_same_source_in_another_place_is_the_same_kernel() {
    let home = Home::new(WORKS.trim_end_matches(" && echo x >>count\n"));
    let first = home.build().unwrap();
    let copied = Command::new("cp")
        .current_dir(home.0.path())
        .args(["-a", "tree", "moved"])
        .status();
    assert!(copied.unwrap().success());
    let mut stages = Vec::new();
    let moved = home.0.path().join("moved");
    let again = home.heard_build_of(&moved, &[], &mut |news| stages.push(news.what.clone()));
    assert_eq!(again.unwrap(), first);
    assert!(
        stages.iter().all(|what| what.starts_with("reading ")),
        "{stages:?}"
    );
}

#[test]
fn the_users_option_wins_in_a_choice() {
    // The last line of a choice takes effect, as in the kernel's own configuration program.
    let chooses = WORKS.replace(
        "cp $(KCONFIG_ALLCONFIG) $(O)/.config",
        "grep -v '^CONFIG_HZ_' $(KCONFIG_ALLCONFIG) >$(O)/.config; \\\n\
         \tgrep '^CONFIG_HZ_' $(KCONFIG_ALLCONFIG) | tail -n 1 >>$(O)/.config",
    );
    let home = Home::new(&chooses);
    let fragment = home.file("extra", b"CONFIG_HZ_1000=y\n");
    let mut notes = Vec::new();
    let tree = home.0.path().join("tree");
    let kernel = home.heard_build_of(&tree, &[fragment], &mut |news| {
        if news.done && news.percent.is_none() {
            notes.push(news.what.clone());
        }
    });
    let config = fs::read_to_string(kernel.unwrap().config.unwrap()).unwrap();
    assert!(config.contains("CONFIG_HZ_1000=y\n"), "{config}");
    assert_eq!(
        notes,
        [
            "note: this source does not have these options, or other options exclude them: CONFIG_HZ_250=y"
        ]
    );
}

#[test]
fn an_option_that_another_one_replaces_is_not_reported() {
    // 6.12 lacks the options in `old`, and 7.3 those in `new`.
    let old = "PREEMPT_LAZY=y\\|CONFIG_NUMA_MIGRATION=y";
    let new = "PREEMPT=y\\|CONFIG_PROC_SYSCTL=y";
    for missing in [old, new] {
        let drops = format!("grep -v 'CONFIG_{missing}' $(KCONFIG_ALLCONFIG) >");
        let home = Home::new(&WORKS.replace("cp $(KCONFIG_ALLCONFIG)", &drops));
        let tree = home.0.path().join("tree");
        let built = home.heard_build_of(&tree, &[], &mut |news| {
            assert!(!news.what.starts_with("note"), "{news:?}");
        });
        built.unwrap();
    }
}

#[test]
fn progress_shows_paths_relative_to_the_objects() {
    let home = Home::new(&WORKS.replace("CC      init", "CC      $(O)/tools/objtool"));
    let mut heard = Vec::new();
    let tree = home.0.path().join("tree");
    let built = home.heard_build_of(&tree, &[], &mut |news| heard.push(news.what.clone()));
    built.unwrap();
    assert!(
        heard
            .iter()
            .any(|what| what.ends_with(": 1 files, tools/objtool/main.o")),
        "{heard:?}"
    );
}

#[test]
fn a_tarball_is_built_and_its_files_are_removed() {
    let home = Home::new(WORKS);
    for (name, flag) in [("t.tar.gz", "-czf"), ("t.tar", "-cf")] {
        let made = Command::new("tar")
            .current_dir(home.0.path())
            .args([flag, name, "tree"])
            .status();
        assert!(made.unwrap().success());
        home.build_of(&home.0.path().join(name), &[]).unwrap();
    }
    let left: Vec<_> = fs::read_dir(home.0.path().join("cache/builds"))
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .filter(|name| !name.ends_with(".lock"))
        .collect();
    assert_eq!(left, [""; 0]);
}

#[test]
fn offline_a_package_must_have_been_fetched_before() {
    let home = Home::new(WORKS);
    let cache = home.cache();
    let of = |name| Origin::of(name, &cache, true, &mut |_| {});
    let error = of("linux-source-6.12").unwrap_err();
    assert!(matches!(error, KernelError::Offline { .. }), "{error}");
    drop(cache.folder("apt").unwrap());
    let tarball = home.file(
        "cache/apt/source/linux-source-6.12_6.12.117-1/usr/src/linux-source-6.12.tar.xz",
        b"",
    );
    let origin = of("debian:linux-source-6.12").unwrap();
    assert_eq!(origin.to_string(), "linux-source-6.12 6.12.117-1");
    assert!(
        matches!(&origin, Origin::Debian { tarball: found, .. } if *found == tarball),
        "{origin:?}"
    );
    assert!(of("linux-source-6.1").is_err());
}

#[test]
fn a_tree_that_does_not_build_shows_the_compilers_last_lines() {
    let home = Home::new(
        "allnoconfig:\n\tcp $(KCONFIG_ALLCONFIG) $(O)/.config\nbzImage:\n\t@echo 'kernel/sched/ext.c:1: error: oh' >&2; exit 1\n",
    );
    let error = home.build().unwrap_err();
    assert_eq!(error.exit_code(), 1);
    let text = error.to_string();
    assert!(text.contains("kernel/sched/ext.c:1: error: oh"), "{text}");
    assert!(text.contains("make bzImage in "), "{text}");
    assert!(home.cache().scan().unwrap().0.is_empty());
}

#[test]
fn the_first_error_is_shown_whatever_follows_it() {
    let home = Home::new(
        "allnoconfig:\n\tcp $(KCONFIG_ALLCONFIG) $(O)/.config\nbzImage:\n\
         \t@echo 'kernel/sched/ext.c:9:1: error: oh' >&2; \\\n\
         \tfor i in 1 2 3 4 5 6 7 8 9 10 11 12 13; do echo \"mm/slub.c:$$i: warning: well\" >&2; done; \\\n\
         \tfor i in 5 4 3 2 1; do echo \"make[$$i]: *** [mm/slub.o] Error 1\" >&2; done; exit 1\n",
    );
    let text = home.build().unwrap_err().to_string();
    assert!(text.contains("ext.c:9:1: error: oh"), "{text}");
    assert!(!text.contains("***"), "{text}");
    // The messages of make are shown if there are no others.
    let silent = "allnoconfig:\n\tcp $(KCONFIG_ALLCONFIG) $(O)/.config\nbzImage:\n\t@exit 1\n";
    let text = Home::new(silent).build().unwrap_err().to_string();
    assert!(text.contains("*** [Makefile:4: bzImage] Error 1"), "{text}");
}

#[test]
fn a_full_disk_is_a_fault_of_the_host() {
    let home = Home::new(
        "allnoconfig:\n\tcp $(KCONFIG_ALLCONFIG) $(O)/.config\nbzImage:\n\
         \t@echo 'x.c: fatal error: closing dependency file: No space left on device' >&2; \\\n\
         \tfor i in 1 2 3 4 5 6 7 8 9 10 11 12 13; do echo \"make: error $$i\" >&2; done; exit 1\n",
    );
    let error = home.build().unwrap_err();
    assert!(matches!(error, KernelError::DiskFull { .. }), "{error}");
    assert_eq!(error.exit_code(), 2);
    let text = format!("{:?}", room_for(home.0.path(), u64::MAX));
    assert!(text.contains("NoRoom"), "{text}");
}

#[test]
fn rejected_options_are_named() {
    let drop_option =
        "allnoconfig:\n\tgrep -v CONFIG_SCHED_CLASS_EXT $(KCONFIG_ALLCONFIG) >$(O)/.config\n";
    let error = Home::new(drop_option).build().unwrap_err();
    assert_eq!(error.exit_code(), 1);
    let text = error.to_string();
    assert!(
        text.contains("CONFIG_SCHED_CLASS_EXT=y") && text.contains("6.12"),
        "{text}"
    );
    // The guest's settings are written through /proc/sys, which depends on different options in different versions.
    let drop_option = drop_option.replace("SCHED_CLASS_EXT", "SYSCTL=y");
    let text = Home::new(&drop_option).build().unwrap_err().to_string();
    assert!(
        text.contains("lines of the configuration: CONFIG_SYSCTL=y."),
        "{text}"
    );
    // The user's options are required too; options that are only useful are not.
    let home = Home::new(&WORKS.replace(
        "cp $(KCONFIG_ALLCONFIG)",
        "grep -v HZ_250 $(KCONFIG_ALLCONFIG) >",
    ));
    home.build().unwrap();
    let fragment = home.file("extra", b"CONFIG_HZ_250=y\n");
    let tree = home.0.path().join("tree");
    let text = home.build_of(&tree, &[fragment]).unwrap_err().to_string();
    assert!(text.contains("CONFIG_HZ_250=y"), "{text}");
    let prose = home.file("prose", b"hello\n");
    let text = home.build_of(&tree, &[prose]).unwrap_err().to_string();
    assert!(
        text.contains("without a line `CONFIG_NAME=value`"),
        "{text}"
    );
}

#[test]
fn an_invalid_source_is_rejected_with_a_reason() {
    let home = Home::new(WORKS);
    fs::create_dir(home.0.path().join("empty")).unwrap();
    home.file("notes.txt", b"hello");
    home.file("bad.tar.gz", b"hello");
    home.file("built/Makefile", b"");
    home.file("built/Kconfig", b"");
    home.file("built/arch/x86/Kconfig", b"");
    home.file("built/.config", b"");
    for (name, says) in [
        ("nothing", "there is no such file or folder"),
        ("empty", "not a kernel tree: it has no Makefile"),
        ("notes.txt", "a file that is not a .tar"),
        ("bad.tar.gz", "tar cannot unpack"),
        ("built", "make mrproper"),
    ] {
        let error = home.build_of(&home.0.path().join(name), &[]).unwrap_err();
        assert_eq!(error.exit_code(), 1, "{name}: {error}");
        assert!(error.to_string().contains(says), "{name}: {error}");
    }
}

/// Not a test by itself: `killing_a_build_also_kills_its_compilers` runs it in a child process, which it kills.
#[test]
fn child_that_builds() {
    let Some(home) = std::env::var_os("KTSTR_KERNEL_TEST_BUILD") else {
        return;
    };
    let home = PathBuf::from(home);
    let make = make::Make {
        tree: &home.join("tree"),
        objects: &home,
    };
    make.run(&["bzImage"], |_| {}).unwrap();
}

#[test]
fn killing_a_build_also_kills_its_compilers() {
    let home = Home::new(
        "bzImage:\n\techo $$$$ >$(O)/pid.new && mv $(O)/pid.new $(O)/pid && sleep 1000; true\n",
    );
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "build::tests::child_that_builds"])
        .env("KTSTR_KERNEL_TEST_BUILD", home.0.path())
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let waits = |what: &str, done: &dyn Fn() -> bool| {
        let start = Instant::now();
        while !done() {
            assert!(start.elapsed() < Duration::from_secs(60), "{what}");
            std::thread::sleep(Duration::from_millis(10));
        }
    };
    let pid_file = home.0.path().join("pid");
    waits("the build starts", &|| pid_file.exists());
    let pid = fs::read_to_string(&pid_file).unwrap();
    let proc = PathBuf::from(format!("/proc/{}", pid.trim()));
    assert!(proc.exists());
    child.kill().unwrap();
    child.wait().unwrap();
    waits("the recipe's shell is gone", &|| {
        fs::read_to_string(proc.join("stat")).map_or(true, |stat| stat.contains(") Z "))
    });
}

#[test]
fn a_packages_tarball_that_was_cut_short_is_removed_to_be_fetched_again() {
    let home = Home::new(WORKS);
    let tarball = home.file(
        "cache/apt/source/linux-source-9.9_1/usr/src/linux-source-9.9.tar.xz",
        b"",
    );
    let origin = Origin::Debian {
        package: "linux-source-9.9".to_owned(),
        version: "1".to_owned(),
        tarball: tarball.clone(),
    };
    let into = home.0.path().join("unpacked");
    let text = origin.tree(&into, &mut |_| {}).unwrap_err().to_string();
    assert!(
        text.contains("run the command again to fetch it again"),
        "{text}"
    );
    assert!(!tarball.exists());
    // A tarball of the user stays.
    let own = home.file("own.tar.xz", b"");
    let text = Origin::Tarball(own.clone())
        .tree(&into, &mut |_| {})
        .unwrap_err()
        .to_string();
    assert!(text.contains("tar cannot unpack") && own.exists(), "{text}");
}

#[test]
fn the_objects_that_a_killed_build_of_a_tarball_left_are_not_used() {
    let makefile = WORKS.replace("bzImage:\n", "bzImage:\n\ttest ! -e $(O)/left\n");
    let home = Home::new(&makefile);
    let tarball = home.0.path().join("kernel.tar");
    let mut tar = Command::new("tar");
    tar.arg("-cf")
        .arg(&tarball)
        .arg("-C")
        .arg(home.0.path())
        .arg("tree");
    assert!(tar.status().unwrap().success());
    let name = hex(&Sha256::digest(tarball.display().to_string().as_bytes()));
    let left = home.file(&format!("cache/builds/{}/objects/left", &name[..16]), b"");
    for folder in left.ancestors().skip(1).take(4) {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o700);
        fs::set_permissions(folder, mode).unwrap();
    }
    home.build_of(&tarball, &[]).unwrap();
}
