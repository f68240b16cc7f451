# Each target does its own set-up. If everything is there, it installs nothing.
#
# Cargo always builds from the whole workspace (`--workspace --bin NAME`), not from one package (`-p NAME`): the packages
# that are chosen determine the features of the dependencies, and so what can be reused. Any other choice compiles most
# of the workspace once more.
CARGO ?= cargo

# A third-party scheduler from the package registry. The test `registry_scheduler` has this path in its code.
REGISTRY := $(CURDIR)/target/registry
BPFLAND := $(REGISTRY)/bin/scx_bpfland

.PHONY: help demo test test-root kernels schedulers test-registry test-perfetto fuzz seeds packages determinism bench lint deps

help:
	@echo "make demo           boot a kernel in a VM, run a scheduler under a two-step test, print what was seen"
	@echo "make test           the whole test suite (SEED=n: tests that boot machines under that seed)"
	@echo "make test-root      the part of the suite that tries something else as root than as an ordinary user"
	@echo "make kernels        the demo, acceptance and the schedule on each kernel series that Debian's archive offers"
	@echo "make schedulers     install a dozen published schedulers, check each, and write docs/schedulers.md (CHECK=options)"
	@echo "make test-registry  install scx_bpfland from the package registry and run a test under it"
	@echo "make test-perfetto  read a trace back with Perfetto's own message definitions"
	@echo "make fuzz           ten million inputs for each reader of hostile bytes (RUNS=n for another number)"
	@echo "make seeds          the tests that boot a virtual machine, under ten new random seeds (SEEDS=20 for more)"
	@echo "make packages       the crates as a registry would serve them: a crate that depends on them, an installed demo"
	@echo "make determinism    the virtual clock's promise, each comparison up to 100 times, under scx_bpfland too"
	@echo "make bench          where the time of a run goes, and what a comparison of stored runs costs"
	@echo "make lint           format, clippy, documentation, spelling"
	@echo "make deps           install what is missing on this machine (the others do it too)"

deps:
	@scripts/deps.sh

demo: deps
	$(CARGO) build --workspace --bin scx-ktstr --bin cargo-ktstr
	@$(CARGO) run --quiet --bin cargo-ktstr -- demo

# The scheduler under test must be built before a test looks for its binary. A failing test does not keep other tests from
# running. With SEED=n the tests that boot virtual machines run under that seed instead of the one that each of them has.
test: deps
	$(CARGO) build --workspace --bin scx-ktstr
ifdef SEED
	red=0; CARGO=$(CARGO) scripts/seeds.sh --seeds $(SEED) || red=1; CARGO=$(CARGO) scripts/seeds.sh --others || red=1; exit $$red
else
	$(CARGO) test --workspace --no-fail-fast
endif

# The tests that behave differently as root: they need files and folders of another user, file systems that root mounts, or a
# killed run of root. `bad_input` and `hygiene` run completely; in `warm`, the names of these tests start with `as_root`.
test-root: deps
	$(CARGO) build --workspace --bin scx-ktstr --bin cargo-ktstr
	$(CARGO) test --workspace --no-fail-fast --test bad_input --test hygiene
	$(CARGO) test --workspace --no-fail-fast --test warm -- as_root

# Fetches what is not cached yet: some 15 to 50 MB a kernel.
kernels: deps
	CARGO=$(CARGO) scripts/kernels.sh

test-registry: deps $(BPFLAND)
	$(CARGO) test --workspace --test registry_scheduler

test-perfetto: deps
	$(CARGO) build --workspace --bin scx-ktstr --bin cargo-ktstr
	CARGO=$(CARGO) scripts/perfetto.sh

# Takes hours, most of them for the target that captures whole guests. No target boots a machine.
RUNS ?= 10000000
fuzz: deps
	CARGO=$(CARGO) scripts/fuzz.sh $(RUNS)

$(BPFLAND):
	CARGO=$(CARGO) scripts/schedulers.sh install scx_bpfland

# Takes hours: runs `cargo ktstr check` on the schedulers that scripts/schedulers.txt lists. CHECK holds its options.
CHECK ?= --thorough --topologies own --seeds 2
schedulers: deps
	CARGO=$(CARGO) scripts/schedulers.sh check $(CHECK)

# A seed under which a test fails is printed with the command that runs it again.
SEEDS ?= 10
seeds: deps
	@scripts/seeds.sh $(SEEDS)

packages: deps
	@scripts/test-packages.sh

# Each comparison prints how many runs gave how many digests.
determinism: deps $(BPFLAND)
	$(CARGO) build --workspace --bin scx-ktstr
	KTSTR_DETERMINISM_RUNS=$${KTSTR_DETERMINISM_RUNS:-100} \
	    $(CARGO) test --workspace --test determinism -- --include-ignored --nocapture

# Runs are measured as tests run them, in a debug build. A comparison of stored results runs no machine, and what it costs is
# measured in a release build, which is what `cargo install` makes.
bench: deps
	$(CARGO) build --workspace --bin scx-ktstr --bin cargo-ktstr
	@$(CARGO) run --quiet --bin cargo-ktstr -- bench
	@$(CARGO) run --quiet --release --bin cargo-ktstr -- bench --only compare

# The fuzz targets, the check of traces and the plugin for QEMU do not belong to the workspace, so they are formatted separately.
# The scheduler's build script compiles BPF, so clippy needs the set-up as well. The spell check needs a program that nothing else
# needs. `--all-targets` leaves out the test that `make test-registry` runs, so clippy is called for it separately.
lint:
	@scripts/deps.sh --lint
	codespell
	$(CARGO) fmt --all --check
	$(CARGO) fmt --manifest-path fuzz/Cargo.toml --check
	$(CARGO) fmt --manifest-path checks/perfetto/Cargo.toml --check
	rustfmt --check --edition 2024 crates/ktstr-machine/plugin/lib.rs
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	$(CARGO) clippy --workspace --test registry_scheduler -- -D warnings
	$(CARGO) clippy --manifest-path fuzz/Cargo.toml --locked -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --quiet
