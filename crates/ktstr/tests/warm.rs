//! Tests of templates: forks differ where they must, and whatever happens to a template or to the process that creates it, the
//! next run passes.

#[macro_use]
mod common;

use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use common::Case;
use ktstr::prelude::*;

const ONE_CPU: Topology = Topology::new(1, 1, 1, 1);

case!(TELLS = "tells", tells, topology: ONE_CPU);

/// Prints the values that must differ from fork to fork, and the guest's clock.
fn tells(_: &Ctx) -> Result<AssertResult> {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    let mut random = [0u8; 16];
    let hash = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), 1);
    std::io::Read::read_exact(&mut File::open("/dev/urandom")?, &mut random)?;
    println!("boot_id {}", read("/proc/sys/kernel/random/boot_id").trim());
    println!("random {random:02x?}");
    println!("hash {hash:x}");
    println!("uptime {}", read("/proc/uptime").trim());
    println!("date {}", SystemTime::UNIX_EPOCH.elapsed()?.as_secs());
    Ok(AssertResult::pass())
}

/// A separate cache with the shared kernels.
struct Cache(tempfile::TempDir);

impl Cache {
    fn new() -> Self {
        let folder = common::private_tempdir();
        common::lend_kernels(folder.path());
        Self(folder)
    }

    fn case(&self) -> Case {
        Case::new("tells")
            .env("KTSTR_CACHE_DIR", self.0.path())
            .env("KTSTR_CLOCK", "real")
            .env("KTSTR_ACCEL", "tcg")
    }

    /// Makes a run that must pass. Returns how the machine was started, the output of the test, and the text of the run.
    #[track_caller]
    fn passes(&self) -> (ktstr_record::Start, String, String) {
        let ended = self.case().run();
        ended.says(0, &[]);
        let record = ended.record.as_ref().expect("a record");
        let start = record.record.start.expect("a machine was started");
        (start, ended.artefact("stdout.log"), ended.text.clone())
    }

    fn templates(&self) -> PathBuf {
        self.0.path().join("templates")
    }

    /// Returns the only template of this level.
    #[track_caller]
    fn template(&self, level: &str) -> PathBuf {
        let all = visible(&self.templates());
        let of_level = |folder: &&PathBuf| {
            let text = std::fs::read(folder.join("template.json")).unwrap_or_default();
            serde_json::from_slice::<serde_json::Value>(&text)
                .is_ok_and(|d| d["what"].as_str().is_some_and(|w| w.starts_with(level)))
        };
        let mut found = all.iter().filter(of_level);
        match (found.next(), found.next()) {
            (Some(one), None) => one.clone(),
            other => panic!("{level}: {other:?} of {all:?}"),
        }
    }
}

fn visible(folder: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| {
            !path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .starts_with('.')
        })
        .collect()
}

/// Returns the value after `name` in the output of the test.
fn value<'a>(text: &'a str, name: &str) -> &'a str {
    text.lines()
        .find_map(|line| line.strip_prefix(name))
        .unwrap_or_else(|| panic!("no {name} in {text}"))
        .trim()
}

#[test]
fn forks_of_one_template_have_different_identities() {
    let cache = Cache::new();
    let began = Instant::now();
    let unix = || {
        let now = SystemTime::UNIX_EPOCH.elapsed().expect("after 1970");
        now.as_secs()
    };
    // Makes a run, and returns also the seconds since 1970 between which it was made.
    let passes = || {
        let before = unix();
        let (start, shown, _) = cache.passes();
        (start, shown, before..=unix())
    };
    let (start, first, at_first) = passes();
    assert_eq!(start, ktstr_record::Start::Booted);
    let made = || {
        ["booted", "loaded"].map(|level| {
            let folder = std::fs::metadata(cache.template(level)).expect("a template");
            folder.modified().expect("a time")
        })
    };
    let before = made();
    let (_, second, at_second) = passes();
    assert_eq!(before, made(), "each template was created only once");
    for different in ["boot_id", "random", "hash"] {
        assert_ne!(
            value(&first, different),
            value(&second, different),
            "{different}"
        );
    }
    for (shown, during) in [(&first, at_first), (&second, at_second)] {
        // The clock is continuous over the fork: it neither starts at zero nor includes the age of the template.
        let uptime: f64 = value(shown, "uptime")
            .split(' ')
            .next()
            .and_then(|seconds| seconds.parse().ok())
            .expect("a number");
        assert!(
            uptime > 0.2 && uptime < began.elapsed().as_secs_f64(),
            "{uptime}"
        );
        let date: u64 = value(shown, "date").parse().expect("a number");
        assert!(
            during.contains(&date),
            "the guest's clock says {date} in a run at {during:?}"
        );
    }
}

/// A text that the next run must print, and a function that damages the template's folder.
type Damage = (&'static str, fn(&Path));

/// Changes a byte in the middle of a file.
fn flip(path: &Path) {
    let mut permissions = std::fs::metadata(path).expect("a file").permissions();
    permissions.set_mode(0o600);
    std::fs::set_permissions(path, permissions).expect("own file");
    let file = File::options()
        .read(true)
        .write(true)
        .open(path)
        .expect("own file");
    let middle = file.metadata().expect("a file").len() / 2;
    let mut byte = [0u8];
    file.read_exact_at(&mut byte, middle).expect("in the file");
    file.write_all_at(&[byte[0] ^ 0xff], middle)
        .expect("own file");
}

#[test]
fn a_damaged_template_is_noticed_and_made_again() {
    let cache = Cache::new();
    cache.passes();
    let damages: [Damage; 4] = [
        ("device state", |folder| {
            let state = File::options().write(true).open(folder.join("state"));
            state.and_then(|f| f.set_len(1000)).expect("own file");
        }),
        ("device state", |folder| flip(&folder.join("state"))),
        ("RAM", |folder| flip(&folder.join("ram0"))),
        ("template.json", |folder| {
            std::fs::write(folder.join("template.json"), b"{").expect("own file");
        }),
    ];
    for (level, (what, damage)) in ["loaded", "booted"]
        .into_iter()
        .flat_map(|level| damages.map(|damage| (level, damage)))
    {
        damage(&cache.template(level));
        if level == "booted" {
            // A run reads this template only if it has to create the template of the next level.
            std::fs::remove_dir_all(cache.template("loaded")).expect("own folder");
        }
        let (start, _, text) = cache.passes();
        assert_eq!(start, ktstr_record::Start::Booted);
        assert!(
            text.contains("is damaged") && text.contains(what),
            "{what}: {text}"
        );
        let (_, _, text) = cache.passes();
        assert!(!text.contains("damaged"), "{text}");
    }
}

/// Returns the permission bits of a folder and of its entries, each with its name, sorted by name.
fn modes(folder: &Path) -> Vec<(String, u32)> {
    let mut all = vec![(
        folder.file_name().unwrap_or_default().display().to_string(),
        std::fs::metadata(folder).expect("a folder").mode() & 0o777,
    )];
    for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
        let mode = entry.metadata().expect("a file").mode() & 0o777;
        all.push((entry.file_name().display().to_string(), mode));
    }
    all.sort();
    all
}

#[test]
fn what_a_run_keeps_is_for_its_user_alone() {
    let cache = Cache::new();
    cache.passes();
    for (name, mode) in modes(cache.0.path()) {
        assert_eq!(mode, 0o700, "{name}");
    }
    let mut template = modes(&cache.template("loaded"));
    template.remove(0);
    let wanted = [
        ("ram0", 0o400),
        ("read-in", 0o600),
        ("state", 0o600),
        ("template.json", 0o600),
    ];
    assert_eq!(template, wanted.map(|(name, mode)| (name.to_owned(), mode)));
}

#[test]
fn a_template_that_is_open_to_others_is_made_again() {
    let cache = Cache::new();
    cache.passes();
    let set = |path: &Path, mode| {
        let mode = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(path, mode).expect("own file");
    };
    let opened: [Damage; 2] = [
        ("ram0, is open to other users (mode 644)", |folder| {
            let mode = std::fs::Permissions::from_mode(0o644);
            std::fs::set_permissions(folder.join("ram0"), mode).expect("own file");
        }),
        ("can be written by other users (mode 777)", |folder| {
            let mode = std::fs::Permissions::from_mode(0o777);
            std::fs::set_permissions(folder, mode).expect("own folder");
        }),
    ];
    for (what, open) in opened {
        open(&cache.template("loaded"));
        let (start, _, text) = cache.passes();
        assert_eq!(start, ktstr_record::Start::Booted);
        assert!(text.contains("is damaged") && text.contains(what), "{text}");
    }
    // An unreadable RAM file makes the template unusable, but root can read every file.
    if !rustix::process::getuid().is_root() {
        set(&cache.template("loaded").join("ram0"), 0o000);
        let (_, _, text) = cache.passes();
        assert!(text.contains("ram0: Permission denied"), "{text}");
    }
}

/// Only root can change the owner of a file.
#[test]
fn as_root_a_template_of_another_user_is_made_again() {
    if !rustix::process::getuid().is_root() {
        return;
    }
    let cache = Cache::new();
    cache.passes();
    for name in ["", "ram0"] {
        let path = cache.template("loaded").join(name);
        std::os::unix::fs::chown(path, Some(12345), None).expect("root may");
        let (start, _, text) = cache.passes();
        assert_eq!(start, ktstr_record::Start::Booted);
        assert!(
            text.contains("is damaged") && text.contains("belongs to user 12345"),
            "{text}"
        );
    }
}

#[test]
fn another_qemu_has_templates_of_its_own() {
    let cache = Cache::new();
    cache.passes();
    let real = ktstr_machine::Qemu::find().expect("a QEMU");
    let wrapper = cache.0.path().join("qemu-99");
    let script = format!(
        "#!/bin/sh\n[ \"$1\" = --version ] && echo 'QEMU emulator version 99.0.0' && exit\nexec {} \"$@\"\n",
        real.path.display()
    );
    std::fs::write(&wrapper, script).expect("a writable folder");
    std::fs::set_permissions(&wrapper, std::fs::Permissions::from_mode(0o755)).expect("own file");
    cache.case().env("KTSTR_QEMU", &wrapper).run().says(0, &[]);
    assert_eq!(
        visible(&cache.templates()).len(),
        4,
        "each QEMU has templates of two levels"
    );
}

#[test]
fn a_killed_maker_leaves_nothing_in_the_way() {
    let kills = std::env::var("KTSTR_WARM_KILLS")
        .ok()
        .and_then(|value| value.parse().ok())
        .unwrap_or(3u32);
    let cache = Cache::new();
    // The folder has a queue of its own, so the runs do not wait for other runs of this user.
    let runtime = cache.0.path().join("runtime");
    common::private_folder(&runtime);
    // Returns the folders of unfinished templates. A folder that was made again under the same name differs in the time of its
    // last change.
    let making = || -> Vec<(PathBuf, u64, (i64, i64))> {
        let entries = std::fs::read_dir(cache.templates());
        let unfinished = entries.into_iter().flatten().flatten().filter(|entry| {
            let name = entry.file_name();
            name.to_string_lossy().starts_with(".making")
        });
        unfinished
            .filter_map(|entry| {
                let meta = entry.metadata().ok()?;
                let changed = (meta.ctime(), meta.ctime_nsec());
                Some((entry.path(), meta.ino(), changed))
            })
            .collect()
    };
    let mut hits = 0;
    for kill in 0..kills {
        let before = making();
        let mut case = cache.case().env("XDG_RUNTIME_DIR", &runtime);
        let mut child = case.command.spawn().expect("the test binary starts");
        let began = Instant::now();
        // A run makes no template if an earlier one has finished them all.
        while making().iter().all(|folder| before.contains(folder))
            && child.try_wait().expect("own child").is_none()
        {
            assert!(began.elapsed() < Duration::from_secs(600), "not making any");
            std::thread::sleep(Duration::from_millis(2));
        }
        // The times are spread over a boot of several seconds by the golden ratio, which leaves no gaps.
        let moment = (f64::from(kill) * 0.618).fract() * 5.0;
        std::thread::sleep(Duration::from_secs_f64(moment));
        child.kill().expect("own child");
        child.wait().expect("own child");
        hits += usize::from(making().iter().any(|folder| !before.contains(folder)));
    }
    // A busy host may let a run finish its template before the kill, but not each time.
    assert!(hits > 0, "each run was killed too late");
    let (start, _, text) = cache.passes();
    assert_eq!(start, ktstr_record::Start::Booted, "{text}");
    let left: Vec<_> = std::fs::read_dir(cache.templates())
        .expect("a folder")
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| name.starts_with(".making"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

/// The size of a file system that is too small for a template.
const SMALL_MIB: u32 = 48;

#[test]
fn as_root_and_as_others_a_full_disk_costs_a_boot_and_no_verdict() {
    let of_whom = if rustix::process::getuid().is_root() {
        "-m"
    } else {
        "-Urm"
    };
    if !common::can_mount(&[of_whom]) {
        return;
    }
    let kernels = ktstr_kernel::cache::Cache::from_env()
        .expect("a cache")
        .kernels();
    let folder = common::private_tempdir();
    let script = format!(
        "mount -t tmpfs -o mode=700,size={SMALL_MIB}m none \"$1\" || exit 99\n\
         for kernel in \"$2\"/*; do\n\
             place=$1/kernels/${{kernel##*/}}; mkdir -p -m 700 \"$1/kernels\" \"$place\" || exit 99\n\
             ln -s \"$kernel\"/* \"$place\" || exit 99\n\
         done\n\
         shift 2; \"$@\"; code=$?; ls -A \"$KTSTR_CACHE_DIR/templates\" >&2; exit $code"
    );
    let case = Case::new("tells");
    let mut command = std::process::Command::new("unshare");
    command
        .args([of_whom, "sh", "-c", &script, "sh"])
        .arg(folder.path())
        .arg(&kernels)
        .arg(case.command.get_program())
        .args(case.command.get_args())
        .env("KTSTR_CACHE_DIR", folder.path());
    let ended = Case::of(command).run();
    ended.says(0, &["starting cold", "No space left on device"]);
    assert!(!ended.text.contains(".making"), "{}", ended.text);
    let record = ended.record.as_ref().expect("a record");
    assert_eq!(record.record.start, Some(ktstr_record::Start::Cold));
}

#[test]
fn many_forks_of_one_template_all_pass() {
    let count = |name: &str, otherwise| {
        std::env::var(name)
            .ok()
            .and_then(|value| value.parse().ok())
            .unwrap_or(otherwise)
    };
    let cache = Cache::new();
    cache.passes();
    for _ in 0..count("KTSTR_WARM_FORKS", 3) {
        cache.passes();
    }
    let at_once: Vec<_> = (0..8)
        .map(|_| {
            let mut case = cache.case().env("KTSTR_MACHINES", "8");
            let child = case.command.spawn().expect("the test binary starts");
            (child, case)
        })
        .collect();
    for (mut child, case) in at_once {
        let status = child.wait().expect("own child");
        assert!(status.success(), "{status}");
        let records = common::records(&case.folder.path().join("runs"));
        assert_eq!(records.len(), 1);
        assert_eq!(records[0].record.start, Some(ktstr_record::Start::Booted));
    }
}
