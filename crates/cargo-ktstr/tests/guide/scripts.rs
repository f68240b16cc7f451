//! Every command in the YAML examples exists: the program is in the image or in a package that the same job has installed above,
//! and the scripts and crates of ktstr that are named are in this repository. `commands` checks the calls of `cargo ktstr`.

use super::pages::{examples, root};
use super::yaml::{Yaml, documents};

/// Programs and builtins of the shell that the image `debian:13` has.
const IMAGE: [&str; 9] = [
    "apt-get", "tar", "mv", "cp", "mkdir", "chmod", "export", "[", "set",
];
/// Other programs, each with the packages of Debian 13 that contain it. One of these packages has to be installed.
const PACKAGES: &[(&str, &[&str])] = &[
    ("cargo", &["cargo", "rustup"]),
    ("git", &["git"]),
    ("make", &["make"]),
    ("rustup", &["rustup"]),
];
/// The subcommands of cargo that the examples may call; the last is the command of this project.
const CARGO: [&str; 4] = ["build", "install", "test", "ktstr"];
/// The folder that contains this repository in the jobs of the examples.
const KTSTR: &str = "ktstr/";

/// Returns what is wrong with the commands of a job, which run one after the other.
fn job(name: &str, script: &[&str]) -> Vec<String> {
    let mut faults = Vec::new();
    let mut installed: Vec<&str> = Vec::new();
    let lines = script.iter().flat_map(|text| text.lines());
    for line in lines.filter(|line| !line.trim().is_empty()) {
        for command in line.split("&&").flat_map(|part| part.split("||")) {
            let words: Vec<&str> = command.split_whitespace().collect();
            let Some(program) = words.first() else {
                faults.push(format!("{name}: a command is missing: {line}"));
                continue;
            };
            if let ["apt-get", "install", rest @ ..] = &words[..] {
                installed.extend(rest.iter().filter(|word| !word.starts_with('-')));
            }
            if let Some(script) = program.strip_prefix(KTSTR) {
                if !root().join(script).is_file() {
                    faults.push(format!("{name}: there is no {script}: {line}"));
                }
                continue;
            }
            let is_assignment = program.contains('=') && !program.starts_with('-');
            if IMAGE.contains(program) || is_assignment {
                continue;
            }
            match PACKAGES.iter().find(|(known, _)| known == program) {
                None => faults.push(format!("{name}: no program {program}: {line}")),
                Some((_, packages)) if !packages.iter().any(|one| installed.contains(one)) => {
                    faults.push(format!("{name}: nothing has installed {program}: {line}"));
                }
                Some(_) => {}
            }
            if let ["cargo", called, rest @ ..] = &words[..] {
                if !CARGO.contains(called) {
                    faults.push(format!("{name}: cargo has no {called}: {line}"));
                }
                let path = rest.iter().skip_while(|word| **word != "--path").nth(1);
                let path = path.and_then(|path| path.strip_prefix(KTSTR));
                if path.is_some_and(|path| !root().join(path).join("Cargo.toml").is_file()) {
                    faults.push(format!("{name}: there is no such crate: {line}"));
                }
            }
        }
    }
    faults
}

/// Returns the jobs of an example with their commands.
fn jobs(file: &str, documents: &[Yaml]) -> Vec<(String, Vec<String>)> {
    let texts = |nodes: Vec<&Yaml>| {
        nodes
            .iter()
            .map(|node| node.text().to_owned())
            .collect::<Vec<_>>()
    };
    let of = |node: &Yaml, key: &str| {
        node.get(key)
            .map_or_else(Vec::new, |node| texts(node.items()))
    };
    let one = &documents[0];
    match file {
        "github.yml" => {
            let jobs = one.get("jobs").unwrap().entries().iter();
            let steps = |job: &Yaml| {
                let steps = job.get("steps").unwrap().items();
                texts(steps.iter().filter_map(|step| step.get("run")).collect())
            };
            jobs.map(|(name, job)| (name.clone(), steps(job))).collect()
        }
        "gitlab.yml" => {
            let jobs = one
                .entries()
                .iter()
                .filter(|(_, job)| job.get("script").is_some());
            jobs.map(|(name, job)| (name.clone(), of(job, "script")))
                .collect()
        }
        _ => {
            let pod = |object: &Yaml| {
                let template = object.get("spec")?.get("template")?.get("spec")?;
                let container = template.get("containers")?.items()[0].clone();
                Some((
                    object.get("metadata")?.get("name")?.text().to_owned(),
                    of(&container, "args"),
                ))
            };
            documents.iter().filter_map(pod).collect()
        }
    }
}

/// Returns what is wrong with the commands of an example, and how many lines of commands it has.
fn faults(file: &str, text: &str) -> (Vec<String>, usize) {
    let jobs = jobs(file, &documents(text).unwrap());
    let faults = jobs.iter().flat_map(|(name, script)| {
        let script: Vec<&str> = script.iter().map(String::as_str).collect();
        job(name, &script)
    });
    let lines = jobs
        .iter()
        .flat_map(|(_, script)| script)
        .map(|text| text.lines().count());
    (faults.collect(), lines.sum())
}

#[test]
fn every_command_of_an_example_exists() {
    let mut checked = 0;
    for page in examples() {
        let file = page.path.file_name().unwrap().to_str().unwrap();
        if file.ends_with(".yml") {
            let (faults, lines) = faults(file, &page.text);
            assert_eq!(faults, Vec::<String>::new(), "{file}");
            assert!(lines >= 8, "{file}: only {lines} lines were found");
            checked += 1;
        }
    }
    assert_eq!(checked, 3);
}

#[test]
fn every_planted_error_is_found() {
    let examples = examples();
    for (file, right, wrong, fault) in [
        (
            "github.yml",
            "run: ktstr/scripts/deps.sh",
            "run: ktstr/scripts/setup.sh",
            "build: there is no scripts/setup.sh",
        ),
        (
            "github.yml",
            "libc6-dev rustup",
            "libc6-dev",
            "build: nothing has installed rustup",
        ),
        (
            "github.yml",
            "cargo build",
            "cargo compile",
            "build: cargo has no compile",
        ),
        (
            "github.yml",
            "--path ktstr/crates/cargo-ktstr",
            "--path ktstr/cargo-ktstr",
            "build: there is no such crate",
        ),
        (
            "github.yml",
            "recommends cargo\n",
            "recommends git\n",
            "merge: nothing has installed cargo",
        ),
        (
            "github.yml",
            "&& mv cargo-ktstr",
            "&& move cargo-ktstr",
            "check: no program move",
        ),
        (
            "gitlab.yml",
            "- mkdir -p built &&",
            "- mkdir -p built && &&",
            "build: a command is missing",
        ),
        (
            "gitlab.yml",
            "    - rustup default",
            "    - rustupd default",
            "build: no program rustupd",
        ),
        (
            "gitlab.yml",
            "ca-certificates cargo lib",
            "ca-certificates lib",
            "check: nothing has installed cargo",
        ),
        (
            "kubernetes.yml",
            "recommends cargo\n",
            "recommends git\n",
            "ktstr-merge: nothing has installed cargo",
        ),
        (
            "kubernetes.yml",
            "              apt-get update\n",
            "              apt update\n",
            "ktstr-check: no program apt",
        ),
    ] {
        let page = examples
            .iter()
            .find(|page| page.path.ends_with(file))
            .unwrap();
        assert!(page.text.contains(right), "{file} has no {right:?}");
        let (found, _) = faults(file, &page.text.replacen(right, wrong, 1));
        let is_found = found.iter().any(|found| found.starts_with(fault));
        assert!(is_found, "{file}: {wrong:?} gives {found:?}");
    }
}
