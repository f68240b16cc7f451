//! The shards of each CI example are 1 to n of n, and its merge reads the results of exactly these.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use super::pages::{examples, root};

/// How an example numbers its shards.
struct Form {
    file: &'static str,
    /// The text before the list of the shards. The list is `1, 2, 3`, or `1-3`, or only the number of shards.
    list: &'static str,
    /// The text before the number of shards. If a quote follows it instead of a digit, its last variable has that number.
    shard: &'static str,
}

const FORMS: &[Form] = &[
    Form {
        file: "github.yml",
        list: "shard: [",
        shard: "--shard ${{ matrix.shard }}/",
    },
    Form {
        file: "gitlab.yml",
        list: "parallel: ",
        shard: "--shard \"$CI_NODE_INDEX/$CI_NODE_TOTAL",
    },
    Form {
        file: "slurm.sh",
        list: "#SBATCH --array=",
        shard: "--shard \"$SLURM_ARRAY_TASK_ID/",
    },
    Form {
        file: "kubernetes.yml",
        list: "completions: ",
        shard: "--shard \"$shard/",
    },
];

/// Returns the text after `before`. It is an error if `before` does not occur exactly once.
fn after<'a>(text: &'a str, before: &str) -> Result<&'a str, String> {
    let places = text.matches(before).count();
    match text.split_once(before) {
        Some((_, rest)) if places == 1 => Ok(rest),
        _ => Err(format!("`{before}` stands there {places} times")),
    }
}

fn digits(text: &str) -> Result<usize, String> {
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    text[..end]
        .parse()
        .map_err(|e| format!("`{}`: {e}", &text[..end]))
}

/// Returns the shards that the example runs, and the number of shards that it passes to each of them.
fn shards(form: &Form, text: &str) -> Result<(Vec<usize>, usize), String> {
    let list = after(text, form.list)?;
    let list = list.split(['\n', ']']).next().unwrap_or_default();
    let numbers: Vec<usize> = match (list.split_once('-'), list.contains(',')) {
        (Some((first, last)), _) => (digits(first)?..=digits(last)?).collect(),
        (None, true) => list.split(", ").map(digits).collect::<Result<_, _>>()?,
        (None, false) => (1..=digits(list)?).collect(),
    };
    let rest = after(text, form.shard)?;
    let of = match rest.starts_with('"') {
        true => numbers.len(),
        false => digits(rest)?,
    };
    if form.file == "kubernetes.yml" {
        // The index of a pod of an indexed Job starts at 0.
        after(text, "shard=$((JOB_COMPLETION_INDEX + 1))\n")?;
        after(text, "completionMode: Indexed\n")?;
    }
    Ok((numbers, of))
}

/// Returns what is wrong with the shards of an example.
fn fault(form: &Form, text: &str) -> Option<String> {
    let (numbers, of) = match shards(form, text) {
        Ok(found) => found,
        Err(fault) => return Some(fault),
    };
    if numbers != (1..=of).collect::<Vec<_>>() {
        return Some(format!("it runs the shards {numbers:?} of {of}"));
    }
    let files: Vec<String> = (1..=of).map(|shard| format!("{shard}.json")).collect();
    let merge = format!("cargo ktstr merge {} --", files.join(" "));
    (!text.contains(&merge)).then(|| format!("it has no `{merge}`"))
}

#[test]
fn every_example_runs_all_its_shards_and_merges_them() {
    let examples = examples();
    assert_eq!(
        examples.len(),
        FORMS.len(),
        "each example needs a row in `FORMS`"
    );
    for form in FORMS {
        let page = examples
            .iter()
            .find(|page| page.path.ends_with(form.file))
            .unwrap();
        assert_eq!(fault(form, &page.text), None, "{}", form.file);
    }
}

#[test]
fn a_missing_shard_is_found_in_every_example() {
    let examples = examples();
    for (file, right, wrong) in [
        ("github.yml", "[1, 2, 3]", "[1, 2]"),
        ("github.yml", "matrix.shard }}/3", "matrix.shard }}/4"),
        (
            "github.yml",
            "merge 1.json 2.json 3.json",
            "merge 1.json 2.json",
        ),
        ("gitlab.yml", "parallel: 3", "parallel: 4"),
        (
            "gitlab.yml",
            "$CI_NODE_INDEX/$CI_NODE_TOTAL",
            "$CI_NODE_INDEX/4",
        ),
        ("slurm.sh", "--array=1-3", "--array=0-2"),
        (
            "slurm.sh",
            "$SLURM_ARRAY_TASK_ID/3",
            "$SLURM_ARRAY_TASK_ID/2",
        ),
        ("kubernetes.yml", "completions: 3", "completions: 2"),
        ("kubernetes.yml", "INDEX + 1", "INDEX + 0"),
    ] {
        let form = FORMS.iter().find(|form| form.file == file).unwrap();
        let page = examples
            .iter()
            .find(|page| page.path.ends_with(file))
            .unwrap();
        assert_eq!(page.text.matches(right).count(), 1, "{file}: {right}");
        let planted = page.text.replace(right, wrong);
        assert!(fault(form, &planted).is_some(), "{file}: {wrong}");
    }
}

/// Runs slurm.sh with a `cargo` that prints its arguments and exits with this code.
fn slurm(folder: &Path, task: &str, arguments: &[&str], code: i32) -> (String, i32) {
    let stub = folder.join("cargo");
    fs::write(
        &stub,
        format!("#!/bin/sh\necho cargo \"$@\"\nexit {code}\n"),
    )
    .unwrap();
    fs::set_permissions(&stub, fs::Permissions::from_mode(0o755)).unwrap();
    let output = Command::new("/bin/sh")
        .arg(root().join("docs/guide/ci/slurm.sh"))
        .args(arguments)
        .current_dir(folder)
        .env("PATH", format!("{}:/usr/bin:/bin", folder.display()))
        .env("SLURM_ARRAY_TASK_ID", task)
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    (
        String::from_utf8(text).unwrap(),
        output.status.code().unwrap(),
    )
}

#[test]
fn the_slurm_script_runs_each_shard_and_the_merge() {
    let folder = tempfile::tempdir().unwrap();
    for task in ["1", "2", "3"] {
        let command = format!(
            "cargo ktstr check ./scx_mine --lock ktstr.lock --kernels 7.0,7.3 --shard {task}/3 --results {task}.json\n"
        );
        // A shard with findings does not fail, because the merge decides on them; a shard that could not judge fails.
        for (code, exit) in [(0, 0), (1, 0), (2, 2)] {
            assert_eq!(
                slurm(folder.path(), task, &[], code),
                (command.clone(), exit)
            );
        }
    }
    let merge = "cargo ktstr merge 1.json 2.json 3.json --html check.html --junit junit.xml\n";
    for code in [0, 1, 2] {
        assert_eq!(
            slurm(folder.path(), "1", &["merge"], code),
            (merge.to_owned(), code)
        );
    }
}
