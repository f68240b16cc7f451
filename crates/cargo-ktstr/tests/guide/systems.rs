//! The YAML examples keep the essential rules of their CI systems: the mappings that are checked here have no unknown key and
//! lack no required key, and each job, stage or volume that an example refers to by its name is defined in the same file.
//! Sources: "Workflow syntax for GitHub Actions", "CI/CD YAML syntax reference" of GitLab, and the API reference of
//! Kubernetes (Job v1 batch).

use super::pages::examples;
use super::yaml::{Yaml, documents};

/// The required and the optional keys of a mapping.
struct Keys {
    what: &'static str,
    needed: &'static [&'static str],
    others: &'static [&'static str],
}

impl Keys {
    fn check(&self, at: &str, node: &Yaml, faults: &mut Vec<String>) {
        for key in self.needed.iter().filter(|key| node.get(key).is_none()) {
            faults.push(format!("{at}: {} needs {key}", self.what));
        }
        for (key, _) in node.entries() {
            let key = key.as_str();
            if !self.needed.contains(&key) && !self.others.contains(&key) {
                faults.push(format!("{at}: {} has no {key}", self.what));
            }
        }
    }
}

const WORKFLOW: Keys = Keys {
    what: "a workflow",
    needed: &["on", "jobs"],
    others: &[
        "name",
        "run-name",
        "permissions",
        "env",
        "defaults",
        "concurrency",
    ],
};
const GITHUB_JOB: Keys = Keys {
    what: "a job",
    needed: &["runs-on", "steps"],
    others: &[
        "name",
        "permissions",
        "needs",
        "if",
        "environment",
        "concurrency",
        "outputs",
        "env",
        "defaults",
        "timeout-minutes",
        "strategy",
        "continue-on-error",
        "container",
        "services",
    ],
};
const STEP: Keys = Keys {
    what: "a step",
    needed: &[],
    others: &[
        "id",
        "if",
        "name",
        "uses",
        "run",
        "working-directory",
        "shell",
        "with",
        "env",
        "continue-on-error",
        "timeout-minutes",
    ],
};
const STRATEGY: Keys = Keys {
    what: "a strategy",
    needed: &["matrix"],
    others: &["fail-fast", "max-parallel"],
};

/// Returns what is wrong with a workflow of GitHub Actions.
fn github(file: &Yaml) -> Vec<String> {
    let mut faults = Vec::new();
    WORKFLOW.check("the file", file, &mut faults);
    let jobs = file.get("jobs").map_or(&[][..], Yaml::entries);
    for (at, (name, job)) in jobs.iter().enumerate() {
        GITHUB_JOB.check(name, job, &mut faults);
        for needed in job.get("needs").map_or_else(Vec::new, Yaml::items) {
            // A needed job must be defined above the job that needs it, which also rules out cycles.
            if !jobs[..at].iter().any(|(other, _)| other == needed.text()) {
                faults.push(format!("{name}: no job {} stands above it", needed.text()));
            }
        }
        if let Some(strategy) = job.get("strategy") {
            STRATEGY.check(name, strategy, &mut faults);
        }
        for step in job.get("steps").map_or_else(Vec::new, Yaml::items) {
            STEP.check(name, step, &mut faults);
            if step.get("uses").is_some() == step.get("run").is_some() {
                faults.push(format!("{name}: a step has either uses or run"));
            }
            if step.get("with").is_some() && step.get("uses").is_none() {
                faults.push(format!(
                    "{name}: a step with the key `with` needs the key `uses`"
                ));
            }
            let action = step.get("uses").map(Yaml::text);
            let is_pinned = |action: &str| {
                let version = action
                    .split_once('@')
                    .map(|(name, version)| (name.matches('/').count(), version));
                version.is_some_and(|(slashes, version)| slashes > 0 && !version.is_empty())
            };
            if let Some(action) = action.filter(|action| !is_pinned(action)) {
                faults.push(format!("{name}: {action} is not OWNER/NAME@VERSION"));
            }
        }
    }
    faults
}

/// The keys at the top level of a pipeline that are not names of jobs.
const GITLAB_GLOBAL: [&str; 6] = [
    "default",
    "include",
    "stages",
    "variables",
    "workflow",
    "spec",
];
const GITLAB_JOB: Keys = Keys {
    what: "a job",
    needed: &["script"],
    others: &[
        "after_script",
        "allow_failure",
        "artifacts",
        "before_script",
        "cache",
        "coverage",
        "dependencies",
        "environment",
        "extends",
        "hooks",
        "id_tokens",
        "identity",
        "image",
        "inherit",
        "interruptible",
        "manual_confirmation",
        "needs",
        "pages",
        "parallel",
        "release",
        "resource_group",
        "retry",
        "rules",
        "run",
        "secrets",
        "services",
        "stage",
        "tags",
        "timeout",
        "trigger",
        "variables",
        "when",
    ],
};
const DEFAULT: Keys = Keys {
    what: "default",
    needed: &[],
    others: &[
        "after_script",
        "artifacts",
        "before_script",
        "cache",
        "hooks",
        "id_tokens",
        "image",
        "interruptible",
        "retry",
        "services",
        "tags",
        "timeout",
    ],
};
const ARTIFACTS: Keys = Keys {
    what: "artifacts",
    needed: &[],
    others: &[
        "paths",
        "exclude",
        "expire_in",
        "expose_as",
        "name",
        "public",
        "access",
        "reports",
        "untracked",
        "when",
    ],
};
const CACHE: Keys = Keys {
    what: "cache",
    needed: &["paths"],
    others: &[
        "key",
        "untracked",
        "unprotect",
        "when",
        "policy",
        "fallback_keys",
    ],
};

/// Returns what is wrong with a pipeline of GitLab.
fn gitlab(file: &Yaml) -> Vec<String> {
    let mut faults = Vec::new();
    let stages = file.get("stages").map_or_else(Vec::new, Yaml::items);
    if let Some(default) = file.get("default") {
        DEFAULT.check("default", default, &mut faults);
    }
    let is_job = |entry: &&(String, Yaml)| !GITLAB_GLOBAL.contains(&entry.0.as_str());
    let jobs: Vec<_> = file.entries().iter().filter(is_job).collect();
    if jobs.is_empty() {
        faults.push("the file has no job".to_owned());
    }
    for (name, job) in jobs {
        GITLAB_JOB.check(name, job, &mut faults);
        let stage = job.get("stage").map_or("test", Yaml::text);
        if !stages.iter().any(|known| known.text() == stage) {
            faults.push(format!("{name}: stages has no {stage}"));
        }
        if let Some(artifacts) = job.get("artifacts") {
            ARTIFACTS.check(name, artifacts, &mut faults);
        }
        if let Some(cache) = job.get("cache") {
            CACHE.check(name, cache, &mut faults);
        }
    }
    faults
}

const OBJECT: Keys = Keys {
    what: "an object",
    needed: &["apiVersion", "kind", "metadata", "spec"],
    others: &[],
};
const METADATA: Keys = Keys {
    what: "metadata",
    needed: &["name"],
    others: &["labels", "annotations", "namespace", "generateName"],
};
const JOB_SPEC: Keys = Keys {
    what: "the spec of a Job",
    needed: &["template"],
    others: &[
        "activeDeadlineSeconds",
        "backoffLimit",
        "backoffLimitPerIndex",
        "completionMode",
        "completions",
        "managedBy",
        "manualSelector",
        "maxFailedIndexes",
        "parallelism",
        "podFailurePolicy",
        "podReplacementPolicy",
        "selector",
        "successPolicy",
        "suspend",
        "ttlSecondsAfterFinished",
    ],
};
const CONTAINER: Keys = Keys {
    what: "a container",
    needed: &["name", "image"],
    others: &[
        "args",
        "command",
        "env",
        "envFrom",
        "imagePullPolicy",
        "lifecycle",
        "livenessProbe",
        "ports",
        "readinessProbe",
        "resizePolicy",
        "resources",
        "restartPolicy",
        "securityContext",
        "startupProbe",
        "volumeDevices",
        "volumeMounts",
        "workingDir",
    ],
};

/// Returns what is wrong with a Job of Kubernetes.
fn kubernetes(object: &Yaml) -> Vec<String> {
    let mut faults = Vec::new();
    OBJECT.check("the object", object, &mut faults);
    let text = |node: &Yaml, key: &str| node.get(key).map_or("", Yaml::text).to_owned();
    let kind = (text(object, "apiVersion"), text(object, "kind"));
    if kind != ("batch/v1".to_owned(), "Job".to_owned()) {
        faults.push(format!("{kind:?} is not a Job of batch/v1"));
    }
    let nothing = Yaml::Map(Vec::new());
    let metadata = object.get("metadata").unwrap_or(&nothing);
    METADATA.check("metadata", metadata, &mut faults);
    let job = object.get("spec").unwrap_or(&nothing);
    JOB_SPEC.check("spec", job, &mut faults);
    if text(job, "completionMode") == "Indexed" && job.get("completions").is_none() {
        faults.push("an indexed Job needs completions".to_owned());
    }
    let pod = job
        .get("template")
        .and_then(|template| template.get("spec"));
    let pod = pod.unwrap_or(&nothing);
    // A Job does not accept `Always`, which is the default of pods, so the example has to set the policy.
    if !["Never", "OnFailure"].contains(&text(pod, "restartPolicy").as_str()) {
        faults.push("restartPolicy is neither Never nor OnFailure".to_owned());
    }
    let volumes = pod.get("volumes").map_or_else(Vec::new, Yaml::items);
    let containers = pod.get("containers").map_or_else(Vec::new, Yaml::items);
    if containers.is_empty() {
        faults.push("the pod has no container".to_owned());
    }
    for container in containers {
        CONTAINER.check("the pod", container, &mut faults);
        for mount in container
            .get("volumeMounts")
            .map_or_else(Vec::new, Yaml::items)
        {
            let name = text(mount, "name");
            if !volumes.iter().any(|volume| text(volume, "name") == name) {
                faults.push(format!("there is no volume {name}"));
            }
        }
    }
    faults
}

/// Returns how an example violates the rules of its CI system.
pub fn faults(file: &str, text: &str) -> Vec<String> {
    let documents = match documents(text) {
        Ok(documents) => documents,
        Err(fault) => return vec![fault],
    };
    match (file, &documents[..]) {
        ("github.yml", [one]) => github(one),
        ("gitlab.yml", [one]) => gitlab(one),
        ("kubernetes.yml", all) => all.iter().flat_map(kubernetes).collect(),
        _ => vec![format!(
            "{} documents, for which there are no rules here",
            documents.len()
        )],
    }
}

#[test]
fn every_example_keeps_the_rules_of_its_system() {
    let mut checked = 0;
    for page in examples() {
        let file = page.path.file_name().unwrap().to_str().unwrap();
        if file.ends_with(".yml") {
            assert_eq!(faults(file, &page.text), Vec::<String>::new(), "{file}");
            checked += 1;
        }
    }
    assert_eq!(checked, 3);
}

/// Errors to plant: the file, the text to replace, its replacement, and the beginning of the fault that has to be found.
const PLANTED: &[(&str, &str, &str, &str)] = &[
    (
        "github.yml",
        "on: [push",
        "when: [push",
        "the file: a workflow needs on",
    ),
    (
        "github.yml",
        "\nenv:\n",
        "\nenvironment:\n",
        "the file: a workflow has no environment",
    ),
    (
        "github.yml",
        "    needs: build\n",
        "    needs: built\n",
        "check: no job built stands above it",
    ),
    (
        "github.yml",
        "    needs: check\n",
        "    need: check\n",
        "merge: a job has no need",
    ),
    (
        "github.yml",
        "      fail-fast: false\n",
        "      failfast: false\n",
        "check: a strategy has no failfast",
    ),
    (
        "github.yml",
        "      - run: rustup default stable\n",
        "      - script: rustup default stable\n",
        "build: a step has no script",
    ),
    (
        "github.yml",
        "uses: actions/cache@v4",
        "uses: actions/cache",
        "check: actions/cache is not OWNER/NAME@VERSION",
    ),
    (
        "github.yml",
        "      - run: rustup default stable\n",
        "      - name: stable\n",
        "build: a step has either uses or run",
    ),
    (
        "gitlab.yml",
        "stages: [build, check, merge]",
        "stages: [build, merge]",
        "check: stages has no check",
    ),
    (
        "gitlab.yml",
        "\nvariables:\n",
        "\nvariable:\n",
        "variable: a job needs script",
    ),
    (
        "gitlab.yml",
        "default:\n  image",
        "default:\n  container",
        "default: default has no container",
    ),
    (
        "gitlab.yml",
        "  parallel: 3\n",
        "  parallelism: 3\n",
        "check: a job has no parallelism",
    ),
    (
        "gitlab.yml",
        "    when: always\n",
        "    if: always\n",
        "merge: artifacts has no if",
    ),
    (
        "gitlab.yml",
        "    paths: [.ktstr/kernels/]\n",
        "    path: [.ktstr/kernels/]\n",
        "check: cache needs paths",
    ),
    (
        "kubernetes.yml",
        "  completions: 3\n",
        "",
        "an indexed Job needs completions",
    ),
    (
        "kubernetes.yml",
        "  parallelism: 3\n",
        "  parallel: 3\n",
        "spec: the spec of a Job has no parallel",
    ),
    (
        "kubernetes.yml",
        "        - name: ktstr\n          persist",
        "        - name: other\n          persist",
        "there is no volume ktstr",
    ),
    (
        "kubernetes.yml",
        "restartPolicy: Never",
        "restartPolicy: Always",
        "restartPolicy is neither",
    ),
    (
        "kubernetes.yml",
        "          image: debian:13\n",
        "",
        "the pod: a container needs image",
    ),
    (
        "kubernetes.yml",
        "apiVersion: batch/v1\n",
        "apiVersion: v1\n",
        "(\"v1\", \"Job\") is not a Job",
    ),
    (
        "kubernetes.yml",
        "kind: Job\nmetadata",
        "kind: Job\nmeta",
        "the object: an object needs metadata",
    ),
    ("kubernetes.yml", "\n---\n", "\n", "no YAML"),
];

#[test]
fn every_planted_error_is_found() {
    let examples = examples();
    for (file, right, wrong, fault) in PLANTED {
        let page = examples
            .iter()
            .find(|page| page.path.ends_with(file))
            .unwrap();
        assert!(page.text.contains(right), "{file} has no {right:?}");
        let found = faults(file, &page.text.replacen(right, wrong, 1));
        let is_found = found.iter().any(|found| found.starts_with(fault));
        assert!(is_found, "{file}: {wrong:?} gives {found:?}");
    }
}

/// `nextest.toml` has exactly one override for each preset of the gauntlet with at least 8 CPUs, and none for a smaller one.
#[test]
fn nextest_has_threads_for_each_large_preset() {
    let text =
        std::fs::read_to_string(super::pages::root().join("docs/guide/ci/nextest.toml")).unwrap();
    let file: toml::Table = text.parse().unwrap();
    let overrides = file["profile"]["default"]["overrides"].as_array().unwrap();
    let filters: Vec<regex_lite::Regex> = overrides
        .iter()
        .map(|one| {
            let filter = one["filter"].as_str().unwrap();
            let pattern = filter.strip_prefix("test(/").unwrap();
            let pattern = pattern.strip_suffix("/)").unwrap().replace("\\/", "/");
            regex_lite::Regex::new(&pattern).unwrap()
        })
        .collect();
    for preset in ktstr::topology::PRESETS {
        let name = format!("gauntlet/fair/{}", preset.name);
        let found = filters.iter().filter(|filter| filter.is_match(&name));
        let wanted = preset.topology.total_cpus() >= 8;
        assert_eq!(found.count(), usize::from(wanted), "{name}");
    }
}
