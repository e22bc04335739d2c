# SPDX-License-Identifier: Apache-2.0
# What can be done with the project? `make help` lists it.
.DEFAULT_GOAL := help
.PHONY: start stop build test nightly matrix lint bench wheel clean help test-environment

RUN := .venv/bin
TEST := .venv-test/bin
PYTEST_WORKERS ?= 2
export PATH := $(PATH):$(HOME)/.cargo/bin

start: build ## build what has changed and start the gateway in the background
	@if $(RUN)/pylae health >/dev/null 2>&1; then echo "Pylae is already running"; else $(RUN)/pylae start; fi
	@$(RUN)/python scripts/greet.py

stop: ## end the gateway that `make start` started
	@$(RUN)/pylae stop

build: ## make .venv with the release build; the command is .venv/bin/pylae
	@scripts/bootstrap.sh run

test: test-environment ## run all tests but the nightly ones, against real processes and sockets
	@scripts/test-packages.sh
	cargo test --quiet --profile test-build -p pylae-core -p pylae-shared
	$(TEST)/python -m pytest -q -n $(PYTEST_WORKERS) --dist loadfile

nightly: test-environment ## run the tests that take minutes
	@scripts/test-packages.sh
	PYLAE_ROUTER_SETS=100000 cargo test --quiet --profile test-build -p pylae-core -- --ignored many_sets
	$(TEST)/python -m pytest -q -m nightly --timeout 1800

matrix: test-environment ## break everything on purpose, ask why, and write docs/reference/fault-matrix.md
	@scripts/test-packages.sh
	$(TEST)/python -m pytest -q -m matrix tests/matrix

lint: test-environment ## check form, types and imports of everything
	$(TEST)/ruff check .
	$(TEST)/ruff format --check .
	$(TEST)/mypy python tests bench scripts
	$(TEST)/lint-imports
	cargo fmt --check
	PYO3_PYTHON=$(abspath $(TEST))/python cargo clippy --quiet --workspace --all-targets -- -D warnings

bench: build ## measure against nginx and others in the same run (about 25 minutes; ARGS="--scenarios plain")
	@scripts/test-packages.sh
	$(RUN)/python -m bench $(ARGS)

wheel: ## build dist/*.whl, which installs where there is no Rust
	@scripts/bootstrap.sh wheel

clean: ## remove everything that was built, environments too
	rm -rf target .build .venv .venv-test dist .mypy_cache .ruff_cache .pytest_cache python/pylae/_core.*.so
	find . -name __pycache__ -prune -exec rm -rf {} +

help: ## print this
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

test-environment:
	@scripts/bootstrap.sh test
