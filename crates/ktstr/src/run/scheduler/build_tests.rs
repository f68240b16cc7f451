//! These tests run cargo on packages that they create.
use super::*;

/// Creates a workspace with the package `scx_made`. Its binaries `scx_made` and `scx_other` print `text`, with an
/// exclamation mark if its feature `loud` is on.
fn workspace(text: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let write = |name: &str, content: &str| {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("writable");
        std::fs::write(path, content).expect("writable");
    };
    write(
        "Cargo.toml",
        "[workspace]\nmembers = [\"made\"]\nresolver = \"3\"\n",
    );
    write(
        "made/Cargo.toml",
        "[package]\nname = \"scx_made\"\nversion = \"0.1.0\"\nedition = \"2024\"\n\
         [features]\nloud = []\n[[bin]]\nname = \"scx_made\"\npath = \"src/main.rs\"\n\
         [[bin]]\nname = \"scx_other\"\npath = \"src/main.rs\"\n",
    );
    write("made/src/main.rs", &source(text));
    folder
}

fn source(text: &str) -> String {
    format!(
        "fn main() {{ println!(\"{text}{{}}\", if cfg!(feature = \"loud\") {{ \"!\" }} else {{ \"\" }}) }}\n"
    )
}

fn request(folder: &tempfile::TempDir, name: &str) -> Request {
    Request {
        name: name.to_owned(),
        folder: folder.path().join("made"),
        profile: "dev".to_owned(),
        features: Vec::new(),
    }
}

fn says(outcome: Outcome) -> String {
    let Outcome::Built(path) = outcome else {
        panic!("{outcome:?}");
    };
    let output = Command::new(path).output().expect("it runs");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

#[test]
fn an_edit_is_built_before_the_binary_is_used() {
    let folder = workspace("one");
    let request = request(&folder, "scx_made");
    assert_eq!(says(ask(&request).expect("it builds")), "one");
    std::fs::write(folder.path().join("made/src/main.rs"), source("two")).expect("writable");
    assert_eq!(says(ask(&request).expect("it builds")), "two");
    let loud = Request {
        features: vec!["loud".to_owned()],
        ..request
    };
    assert_eq!(says(ask(&loud).expect("it builds")), "two!");
}

#[test]
fn a_binary_of_another_name_than_its_package_is_found() {
    let folder = workspace("other");
    let request = request(&folder, "scx_other");
    assert_eq!(says(ask(&request).expect("it builds")), "other");
}

#[test]
fn a_failed_build_is_an_error_with_the_compilers_last_lines() {
    let folder = workspace("\", nonsense, \"");
    let error = ask(&request(&folder, "scx_made")).expect_err("it does not build");
    let text = error.to_string();
    for part in [
        "the scheduler `scx_made` does not build",
        "cargo build -p scx_made --profile dev",
        &folder.path().join("made").display().to_string(),
        "nonsense",
    ] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
    assert_eq!(error.exit_code(), 1);
}

#[test]
fn a_missing_package_and_a_missing_workspace_are_not_errors() {
    let folder = workspace("x");
    let outcome = |request: &Request| ask(request).expect("no error");
    match outcome(&request(&folder, "scx_nowhere")) {
        Outcome::NotThere(why) => assert!(
            why.contains("has no package or binary of that name"),
            "{why}"
        ),
        other => panic!("{other:?}"),
    }
    let empty = tempfile::tempdir().expect("a temporary folder");
    for place in [empty.path().to_owned(), empty.path().join("gone")] {
        let nowhere = Request {
            folder: place.clone(),
            ..request(&folder, "scx_made")
        };
        let Outcome::NoWorkspace(why) = outcome(&nowhere) else {
            panic!("expected NoWorkspace for {}", place.display());
        };
        let named = place.display().to_string();
        assert!(why.contains(&named) && why.contains("Cargo.toml"), "{why}");
    }
}

#[test]
fn a_session_asks_once_and_the_next_one_asks_again() {
    let folder = workspace("first");
    let request = request(&folder, "scx_made");
    let answers = folder.path().join("answers");
    std::os::unix::fs::DirBuilderExt::mode(&mut std::fs::DirBuilder::new(), 0o700)
        .create(&answers)
        .expect("writable");
    let session = |name: &str| says(of_session(&request, name, &answers).expect("it builds"));
    assert_eq!(session("a"), "first");
    std::fs::write(folder.path().join("made/src/main.rs"), source("second")).expect("writable");
    // If the program had been built again, it would say the other word.
    assert_eq!(session("a"), "first", "the answer is kept");
    assert_eq!(session("b"), "second");
}

#[test]
fn a_declared_profile_that_cargo_cannot_have_is_the_declarations_error() {
    for declared in ["", "--release", "a b"] {
        let error = profile(None, Some(declared), "scx_made").expect_err("no such profile");
        let text = error.to_string();
        assert!(
            text.starts_with("the scheduler `scx_made` declares the build profile"),
            "{text}"
        );
        assert_eq!(error.exit_code(), crate::run::EXIT_FAIL);
        let asked = profile(Some(declared.to_owned()), Some("dev"), "scx_made");
        let text = asked.expect_err("no such profile").to_string();
        assert!(text.starts_with("KTSTR_SCHEDULER_PROFILE="), "{text}");
    }
    let asked = profile(Some("release".to_owned()), Some("dev"), "scx_made");
    assert_eq!(asked.expect("a profile"), "release");
    assert_eq!(
        profile(None, Some("dev"), "scx_made").expect("a profile"),
        "dev"
    );
}

#[test]
fn the_profile_is_that_of_the_tests_own_binary() {
    let of = |path: &str| profile_of(Path::new(path));
    assert_eq!(of("/x/target/debug/deps/test-1"), "dev");
    assert_eq!(of("/x/target/release/cargo-ktstr"), "release");
    assert_eq!(
        of("/x/target/x86_64-unknown-linux-gnu/release/examples/e"),
        "release"
    );
    assert_eq!(of("/root/.cargo/bin/cargo-ktstr"), "dev");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let profile = folder.path().join("profiling");
    std::fs::create_dir_all(profile.join(".fingerprint")).expect("writable");
    assert_eq!(profile_of(&profile.join("deps/test-1")), "profiling");
}

#[test]
fn only_old_answers_are_removed() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let old = std::time::SystemTime::now() - 2 * KEEP;
    let answer = "0123456789abcdef0123456789abcdef";
    let lock_of_a_kernel = "0123456789abcdef.lock";
    for name in [answer, lock_of_a_kernel] {
        let file = std::fs::File::create(folder.path().join(name)).expect("writable");
        file.set_modified(old).expect("a modification time");
    }
    open(folder.path(), "fedcba9876543210fedcba9876543210").expect("a lock");
    assert!(!folder.path().join(answer).exists());
    assert!(folder.path().join(lock_of_a_kernel).exists());
}
