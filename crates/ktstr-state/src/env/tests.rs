#![allow(clippy::unwrap_used)]
//! Tests of the table and of the grammars. The tests that read variables start this test program again as a child process
//! for each value, because the environment of a process that has threads must not change.

use std::collections::BTreeSet;
use std::os::unix::ffi::OsStrExt;
use std::process::Command;

use super::*;

/// The test that the child processes run: it prints what each variable's accessor returns.
const CHILD: &str = "env::tests::what_this_process_reads";

/// Starts [`what_this_process_reads`] in a child process in which each variable has this value, or is unset for `None`. Returns
/// what the child read, one line for each accessor that it calls.
fn reads(value: Option<&[u8]>) -> Vec<String> {
    let mut child = Command::new(env::current_exe().unwrap());
    child.args(["--exact", CHILD, "--ignored", "--nocapture"]);
    let named = [
        KERNEL.name(),
        QEMU.name(),
        LD_PRELOAD.name(),
        MACHINES.name(),
        COLD.name(),
        CI.name(),
        VERBOSE.name(),
        NO_SKIP_MODE.name(),
    ];
    for name in named {
        match value {
            Some(value) => child.env(name, OsStr::from_bytes(value)),
            None => child.env_remove(name),
        };
    }
    let output = child.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let read = text.lines().filter_map(|line| line.strip_prefix("= "));
    let read: Vec<String> = read.map(str::to_owned).collect();
    assert_eq!(read.len(), named.len(), "{text}");
    read
}

#[test]
#[ignore = "the other tests start it as a process of its own"]
fn what_this_process_reads() {
    // The test harness has already printed text on the current line, and a value needs a line of its own.
    println!();
    let printed = |read: Result<String, Invalid>| read.unwrap_or_else(|error| error.to_string());
    println!(
        "= {}",
        printed(KERNEL.get().map(|read| format!("{read:?}")))
    );
    println!("= {:?}", QEMU.get());
    println!("= {:?}", LD_PRELOAD.get());
    println!(
        "= {}",
        printed(MACHINES.get().map(|read| format!("{read:?}")))
    );
    println!("= {} {}", COLD.is_on(), COLD.is_off());
    println!("= {} {}", CI.is_on(), KERNEL.is_set());
    println!("= {}", VERBOSE.is_on());
    println!("= {} {:?}", NO_SKIP_MODE.is_on(), COLD.row().shown());
}

#[test]
fn each_grammar_reads_an_unset_and_an_empty_value() {
    let unset = ["None", "None", "None", "None", "false false"];
    assert_eq!(reads(None)[..5], unset);
    assert_eq!(reads(None)[5..], ["false false", "false", "false None"]);
    // An empty value differs from an unset one only for a list and for a presence.
    let empty = ["None", "None", "Some(\"\")", "None", "false false"];
    assert_eq!(reads(Some(b""))[..5], empty);
    assert_eq!(reads(Some(b""))[5..], ["false false", "false", "true None"]);
}

#[test]
fn each_grammar_reads_a_value() {
    let text = "Some(\"0\")";
    let wanted =
        "KTSTR_MACHINES=0: expected the number of machines that may run at once, from 1 to 1024";
    assert_eq!(
        reads(Some(b"0")),
        [
            text,
            text,
            text,
            wanted,
            "false true",
            "true true",
            "false",
            "true Some(\"0\")"
        ]
    );
    let text = "Some(\"1\")";
    assert_eq!(
        reads(Some(b"1")),
        [
            text,
            text,
            text,
            "Some(1)",
            "true false",
            "true true",
            "true",
            "true Some(\"1\")"
        ]
    );
}

#[test]
fn a_value_that_is_not_utf_8_is_a_path_and_no_text() {
    let read = reads(Some(b"a\xff"));
    assert_eq!(
        read[0],
        "KTSTR_KERNEL=a\u{fffd}: expected a path or the spec of a kernel, in UTF-8"
    );
    assert_eq!(read[1], "Some(\"a\\xFF\")");
    assert!(read[3].starts_with("KTSTR_MACHINES=a\u{fffd}: expected the number"));
    assert_eq!(read[4], "true false");
}

#[test]
fn a_number_is_in_one_of_its_ranges() {
    for (value, read) in [("0", Some(0)), ("10", Some(10)), ("1000", Some(1000))] {
        assert_eq!(TURN_US.accept(value.into()).ok(), read);
    }
    for value in ["9", "1001", "-1", "ten", "10 ", "4294967297"] {
        let error = TURN_US.accept(value.into()).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("KTSTR_TURN_US={value}: expected 0 or 10 to 1000 microseconds")
        );
    }
    // A size in MiB must also fit into 64 bits as a number of bytes.
    assert!(TEMPLATES_MIB.accept("17592186044415".into()).is_ok());
    assert!(TEMPLATES_MIB.accept("17592186044416".into()).is_err());
    assert_eq!(SEED.accept(u64::MAX.to_string().into()), Ok(u64::MAX));
    for value in ["0", "1025", "-1", "many"] {
        assert!(MACHINES.accept(value.into()).is_err(), "{value}");
    }
    assert!(CPU_CAP.accept("0".into()).is_err());
    assert!(AUTO_REPRO.accept("101".into()).is_err());
}

#[test]
fn each_row_has_a_name_of_its_own_and_fits_into_a_cell() {
    let names: BTreeSet<&str> = TABLE.iter().map(|row| row.name).collect();
    assert_eq!(names.len(), TABLE.len());
    for row in TABLE {
        assert!(!row.effect.contains(['\n', '|']), "{}", row.name);
        assert!(!row.effect.ends_with('.'), "{}", row.name);
        // A record notes the variables that change a guest. Users set these, so README.md has to list them.
        let noted = recorded().any(|noted| noted.name == row.name);
        assert!(!noted || row.is_in_readme(), "{}", row.name);
    }
}
