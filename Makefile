# Each target sees to its own set-up. A second call finds everything there and installs nothing.
#
# Cargo is asked for the whole workspace and one part of it by name, not for a package (-p): which features the
# dependencies have, and so what can be used again, depends on the packages that are chosen. Every other choice
# compiles most of the workspace once more.
CARGO ?= cargo

# A third-party scheduler from the package registry. The test names this path.
REGISTRY := $(CURDIR)/target/registry
BPFLAND := $(REGISTRY)/bin/scx_bpfland

.PHONY: help demo test test-root kernels schedulers test-registry test-perfetto seeds packages determinism bench lint deps

help:
	@echo "make demo           boot a kernel in a VM, run a scheduler under a two-step test, print what was seen"
	@echo "make test           the whole test suite (SEED=n: tests that boot machines under that seed)"
	@echo "make test-root      the part of the suite that tries something else as root than as an ordinary user"
	@echo "make kernels        the demo and the acceptance test on each kernel series that Debian's archive offers"
	@echo "make schedulers     install a dozen published schedulers, check each, and write docs/schedulers.md (CHECK=options)"
	@echo "make test-registry  install scx_bpfland from the package registry and run a test under it"
	@echo "make test-perfetto  read a trace back with Perfetto's own message definitions"
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

# The scheduler under test must lie where cargo puts binaries before a test looks for it. A red test hides no other. With
# SEED=n the tests that boot virtual machines run under that seed instead of the one that each of them has.
test: deps
	$(CARGO) build --workspace --bin scx-ktstr
ifdef SEED
	red=0; CARGO=$(CARGO) scripts/seeds.sh --seeds $(SEED) || red=1; CARGO=$(CARGO) scripts/seeds.sh --others || red=1; exit $$red
else
	$(CARGO) test --workspace --no-fail-fast
endif

# The tests that try something else as root than as an ordinary user: files and folders of another user, file systems that root
# mounts, and what is left when a run of root's is killed. In programs with other tests too, their names begin with `as_root`.
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

$(BPFLAND):
	CARGO=$(CARGO) scripts/schedulers.sh install scx_bpfland

# Hours: what `cargo ktstr check` says of the schedulers that scripts/schedulers.txt lists. CHECK holds its options.
CHECK ?= --thorough --topologies own --seeds 2
schedulers: deps
	CARGO=$(CARGO) scripts/schedulers.sh check $(CHECK)

# A red seed is printed with the command that runs it again.
SEEDS ?= 10
seeds: deps
	@scripts/seeds.sh $(SEEDS)

packages: deps
	@scripts/test-packages.sh

# Each comparison says how many runs gave how many digests.
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

# The scheduler's build script compiles BPF, so clippy needs the set-up as well, and the spell check a program that nothing else
# needs. `--all-targets` leaves out the test that `make test-registry` runs.
lint:
	@scripts/deps.sh --lint
	codespell
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	$(CARGO) clippy --workspace --test registry_scheduler -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --quiet
