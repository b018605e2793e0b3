# The demo, the tests and the checks, each from nothing: the first call makes .venv, later ones find it there.
PYTHON ?= python3
BIN := .venv/bin

# Recorded answers of other benchmarks, for the tests and measurements that use them; without them these are left out.
BENCH_DATA := $(abspath $(wildcard ../shared/data))
ifneq ($(BENCH_DATA),)
export COUNTERPOINT_BENCH_DATA ?= $(BENCH_DATA)
endif

.DEFAULT_GOAL := help
.PHONY: help demo chat test check bench conformance clean environment-run environment-dev

help:  ## Show this list
	@sed -n 's/^\([a-z]*\):.*## /make \1\t/p' $(MAKEFILE_LIST) | expand -t 18

demo: environment-run  ## Install what this machine can run, answer questions and print the table
	$(BIN)/counterpoint demo

chat: environment-run  ## Install what this machine can run, and start the chat page with the demo's experts
	$(BIN)/counterpoint chat

test: environment-dev  ## Run all tests, two files at a time: they wait as long as they compute
	$(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder

check: environment-dev  ## Lint, formatting, types, import rules
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: environment-dev  ## Measure the mixture against its experts
	$(BIN)/python -m benchmarks.mixture
	$(BIN)/python -m benchmarks.families
	$(BIN)/python -m benchmarks.equality
	$(BIN)/python -m benchmarks.soak --gateways 1 2
	$(BIN)/python -m benchmarks.overhead

conformance: environment-dev  ## Run tools of others against a live endpoint
	@$(BIN)/python scripts/conformance.py
	$(BIN)/pytest -m conformance tests/conformance tests/router/test_recorded_tables.py
	COUNTERPOINT_SEQUENCES=1000 $(BIN)/pytest tests/serving/test_isolation.py
	COUNTERPOINT_LAWS=2000 $(BIN)/pytest tests/experts/test_scheduler_laws.py

clean:  ## Remove .venv and caches
	rm -rf .venv .venv-litellm .venv-conformance .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .coverage build dist
	find aggregator app benchmarks client data experts router scripts serving tests -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null || true

environment-run:
	@$(PYTHON) scripts/environment.py run

environment-dev:
	@$(PYTHON) scripts/environment.py dev
