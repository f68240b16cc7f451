//! Tests of which files are packed into the guest, and which are refused.

use std::os::unix::fs::symlink;

use super::*;

fn pack(search: &Path, specs: &[&str]) -> Result<Files, String> {
    let packer = Packer {
        there: &[],
        cache: None,
        search: Some(search.into()),
    };
    let mut files = Files::new();
    for spec in specs {
        packer
            .add(&mut files, spec)
            .map_err(|error| error.to_string())?;
    }
    Ok(files)
}

fn write(path: &Path, mode: u32) {
    std::fs::create_dir_all(path.parent().expect("a folder")).expect("a writable folder");
    std::fs::write(path, path.display().to_string()).expect("a writable folder");
    std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).expect("its own file");
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}

#[test]
fn a_bare_name_is_found_in_the_path_and_must_be_executable() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (data, program) = (folder.path().join("a"), folder.path().join("b"));
    write(&data.join("my-load"), 0o644);
    write(&program.join("my-load"), 0o755);
    let search = std::env::join_paths([&data, &program]).expect("no colon");
    let files = pack(Path::new(&search), &["my-load"]).expect("it is there");
    let file = &files["/include-files/my-load"];
    assert_eq!(file.mode, 0o755);
    let bytes = file.bytes().expect("it can be read");
    assert_eq!(bytes, text(&program.join("my-load")).as_bytes());

    let error = pack(&data, &["my-load"]).expect_err("nothing that can run");
    let here = std::env::current_dir().expect("a folder");
    for path in [data.join("my-load"), here.join("my-load")] {
        assert!(error.contains(text(&path)), "{error}");
    }
}

#[test]
fn the_current_folder_comes_before_the_path() {
    // The tests of a package run in the package's folder.
    let folder = tempfile::tempdir().expect("a temporary folder");
    write(&folder.path().join("Cargo.toml"), 0o755);
    let files = pack(folder.path(), &["Cargo.toml"]).expect("it is there");
    let file = &files["/include-files/Cargo.toml"];
    let own = std::fs::read("Cargo.toml").expect("the package's own");
    assert_eq!(file.bytes().expect("it can be read"), own);
    assert_eq!(file.mode, 0o644);
}

#[test]
fn a_folder_is_packed_with_all_of_its_contents() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let data = folder.path().join("data");
    write(&data.join("one"), 0o600);
    write(&data.join("deep/er/two"), 0o700);
    symlink("one", data.join("link")).expect("a writable folder");
    for spec in [text(&data).to_owned(), format!("{}/", text(&data))] {
        let files = pack(Path::new(""), &[&spec]).expect("it is there");
        let places: Vec<_> = files.iter().map(|(p, f)| (p.as_str(), f.mode)).collect();
        assert_eq!(
            places,
            [
                ("/include-files/data/deep/er/two", 0o755),
                ("/include-files/data/link", 0o644),
                ("/include-files/data/one", 0o644),
            ]
        );
    }
    symlink("..", data.join("deep/circle")).expect("a writable folder");
    let error = pack(Path::new(""), &[text(&data)]).expect_err("a circle");
    assert!(error.contains("symbolic link"), "{error}");
}

#[test]
fn files_that_cannot_be_packed_are_named() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let empty = folder.path().join("empty");
    std::fs::create_dir(&empty).expect("a writable folder");
    let missing = folder.path().join("missing");
    for (path, says) in [
        (text(&empty), "the folder is empty"),
        (text(&missing), "No such file"),
        ("/dev/null", "neither a file nor a folder"),
        ("/", "ends in no name"),
    ] {
        let error = pack(Path::new(""), &[path]).expect_err("not for the guest");
        assert!(error.contains(path) && error.contains(says), "{error}");
    }
}

#[test]
fn two_files_for_one_place_are_both_named() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (first, second) = (folder.path().join("a/x"), folder.path().join("b/x"));
    let inside = folder.path().join("c/x/y");
    write(&first, 0o644);
    write(&second, 0o644);
    write(&inside, 0o644);
    let folder_x = inside.parent().expect("a folder");
    for (one, two, named) in [
        (first.as_path(), second.as_path(), second.as_path()),
        (&first, folder_x, &inside),
        (folder_x, &first, &inside),
    ] {
        let error = pack(Path::new(""), &[text(one), text(two)]).expect_err("a clash");
        for path in [first.as_path(), named] {
            assert!(error.contains(text(path)), "{error}");
        }
        assert!(error.contains("/include-files/x"), "{error}");
    }
    // A single file with two names does not conflict with itself.
    let link = folder.path().join("d");
    symlink(folder.path().join("a"), &link).expect("a writable folder");
    pack(Path::new(""), &[text(&first), text(&link.join("x"))]).expect("one file");
}

#[test]
fn a_program_brings_its_libraries_unless_the_guest_has_them() {
    let own = std::env::current_exe().expect("a test knows its own binary");
    let files = pack(Path::new(""), &[text(&own)]).expect("it is there");
    let libc = files.keys().find(|place| place.contains("/libc.so"));
    let libc = libc.expect("this test needs a libc").clone();
    assert!(!libc.starts_with(FOLDER), "{libc}");

    let packer = Packer {
        there: &[&files],
        cache: None,
        search: None,
    };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let copy = folder.path().join("another-name");
    std::fs::copy(&own, &copy).expect("a writable folder");
    let mut more = Files::new();
    packer.add(&mut more, text(&copy)).expect("it is there");
    assert_eq!(
        more.keys().collect::<Vec<_>>(),
        ["/include-files/another-name"]
    );
}

fn pack_payload(search: &Path, payload: &'static Payload) -> Result<Files, String> {
    let packer = Packer {
        there: &[],
        cache: None,
        search: Some(search.into()),
    };
    let mut files = Files::new();
    let packed = packer.add_payload(&mut files, payload);
    packed.map(|()| files).map_err(|error| error.to_string())
}

#[test]
fn a_payload_comes_with_its_interpreter_and_its_files() {
    const LOAD: Payload = Payload::binary("load", "my-load").with_include_files(&["my-data"]);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let script = folder.path().join("my-load");
    write(&script, 0o755);
    std::fs::write(&script, "#! /bin/sh -e\nexit 0\n").expect("its own file");
    write(&folder.path().join("my-data"), 0o755);
    let files = pack_payload(folder.path(), &LOAD).expect("it is there");
    for place in [
        "/include-files/my-load",
        "/include-files/my-data",
        "/bin/sh",
    ] {
        assert_eq!(files[place].mode, 0o755, "{place}");
    }
    assert!(
        files.keys().any(|place| place.contains("libc.so")),
        "{:?}",
        files.keys()
    );
}

#[test]
fn a_payload_that_cannot_run_is_named_before_anything_is_started() {
    const LOAD: Payload = Payload::binary("load", "my-load");
    const DATA: Payload = Payload::binary("data", "Cargo.toml");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let error = |payload| pack_payload(folder.path(), payload).expect_err("must be refused");
    let absent = error(&LOAD);
    assert!(
        absent.starts_with("payload `load`: file for the guest `my-load`: neither in"),
        "{absent}"
    );
    // The tests of a package run in the package's folder, whose `Cargo.toml` is not a program.
    let data = error(&DATA);
    assert!(
        data.contains("payload `data`: ") && data.contains("it is not executable"),
        "{data}"
    );
    let script = folder.path().join("my-load");
    for (text, wanted) in [
        ("exit 0\n", "neither an ELF program nor a script"),
        (
            "#!/usr/bin/env sh\n",
            "a script whose interpreter is \"/usr/bin/env\"",
        ),
        ("#!/no/such/sh\n", "No such file"),
    ] {
        write(&script, 0o755);
        std::fs::write(&script, text).expect("its own file");
        let error = error(&LOAD);
        assert!(error.contains(wanted), "{error}");
    }
}
