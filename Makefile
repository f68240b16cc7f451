# Each target sees to its own set-up. A second call finds everything there and installs nothing.
CARGO ?= cargo

.PHONY: help demo test bench lint deps

help:
	@echo "make demo   boot a kernel in a VM, run a scheduler under a two-step test, print what was seen"
	@echo "make test   the whole test suite"
	@echo "make bench  where the time of a run goes"
	@echo "make lint   format, clippy, documentation"
	@echo "make deps   install what is missing on this machine (make test and make demo do it too)"

deps:
	@scripts/deps.sh

demo: deps
	@$(CARGO) build --quiet -p scx-ktstr -p cargo-ktstr
	@$(CARGO) run --quiet -p cargo-ktstr -- demo

# The scheduler under test must lie where cargo puts binaries before a test looks for it.
test: deps
	$(CARGO) build -p scx-ktstr
	$(CARGO) test --workspace

bench: deps
	@$(CARGO) build --quiet -p scx-ktstr -p cargo-ktstr
	@$(CARGO) run --quiet -p cargo-ktstr -- bench

# The scheduler's build script compiles BPF, so clippy needs the set-up as well.
lint: deps
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --quiet
