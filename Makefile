# Everything a fresh machine needs is made here: `make demo` and `make test` each work alone.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
PYTHON ?= python3
export CARGO_TERM_COLOR ?= auto
export CARGO_NET_RETRY ?= 5
# Without the cache of compiled modules every program that a test starts would compile them all.
unexport PYTHONDONTWRITEBYTECODE

TEST := build/venv-test
USE := build/venv
RUST := $(shell find core -name '*.rs' -o -name Cargo.toml 2>/dev/null) Cargo.toml Cargo.lock
SOURCES := $(shell find src -name '*.py' -o -name '*.pyi' -o -name '*.mako' -o -name '*.toml' 2>/dev/null)

.PHONY: help
help: ## list what can be made
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

# One virtual environment for the tests (debug build, editable) and one as a
# user would have it (release build, installed): they never overwrite each other.
$(TEST)/.deps: requirements.lock
	@scripts/venv $(TEST) requirements.lock
$(TEST)/.built: $(TEST)/.deps $(RUST) pyproject.toml
	@scripts/timed "debug build of the Rust core" \
	  env VIRTUAL_ENV=$(CURDIR)/$(TEST) $(TEST)/bin/maturin develop --skip-install
	@scripts/editable $(TEST)
	@touch $@
$(USE)/.deps: requirements.lock
	@scripts/venv $(USE) requirements.lock
$(USE)/.built: $(USE)/.deps $(RUST) $(SOURCES) pyproject.toml
	@scripts/timed "release build of the Rust core" \
	  $(USE)/bin/maturin build --release --out build/wheels --interpreter $(USE)/bin/python
	@$(USE)/bin/pip install --quiet --no-deps --force-reinstall "$$(ls -t build/wheels/*.whl | head -n 1)"
	@touch $@

.PHONY: system-tools
system-tools:
	@scripts/system-tools

.PHONY: browser
browser: setup
	@scripts/system-tools browser
.PHONY: setup
setup: system-tools $(TEST)/.built ## set up what the tests need
.PHONY: install
install: $(USE)/.built ## build the release and install it into build/venv

.PHONY: test
test: setup browser ## set up everything and run every test
	@PROPTEST_RNG_SEED=$(or $(PROPTEST_RNG_SEED),1) cargo test --quiet --workspace --exclude ntmobile-core
	@scripts/tests $(ARGS)

.PHONY: check
check: setup ## lint and types
	@$(TEST)/bin/ruff check .
	@$(TEST)/bin/ruff format --check .
	@$(TEST)/bin/mypy
	@$(TEST)/bin/lint-imports --no-cache
	@$(TEST)/bin/python -m mypy.stubtest ntmobile._core --ignore-disjoint-bases
	@cargo fmt --all --check
	@cargo clippy --quiet --workspace --all-targets -- -D warnings

.PHONY: format
format: setup ## format the code
	@$(TEST)/bin/ruff check --fix --quiet .
	@$(TEST)/bin/ruff format --quiet .
	@cargo fmt --all

.PHONY: demo
demo: system-tools install ## two organisations, two NATs, a download that survives a move
	@$(USE)/bin/python -m ntmobile.lab.demo

.PHONY: bench
bench: system-tools install ## measure against peers
	@$(USE)/bin/python bench/run.py $(ARGS)

.PHONY: tables
tables: system-tools install ## measure all of docs/handover.md and docs/paths.md anew (hours)
	@$(USE)/bin/python bench/handover.py --runs $(or $(RUNS),20) --write
	@for ports in random sequential; do $(USE)/bin/python bench/paths.py --ports $$ports --write; done
	@$(USE)/bin/python bench/paths.py --guessed --runs $(or $(RUNS),20) --write

.PHONY: lock
lock: ## renew the lock files
	@uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --group dev pyproject.toml -o requirements.lock
	@cargo update

.PHONY: clean
clean: ## remove all that was built
	@rm -rf build target src/ntmobile/*.so
