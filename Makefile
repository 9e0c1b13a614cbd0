# SPDX-License-Identifier: Apache-2.0
# Everything that is not in `make help` is an inner detail.

PYTHON := .venv/bin/python
KERNEL := 6.12
ARGS := tests/kernel

# Compiled modules go into .venv: a target run as root leaves nothing of root's in the tree but that.
export PYTHONPYCACHEPREFIX := $(CURDIR)/.venv/pycache

.PHONY: help setup demo test test-kernel torture lint format bench clean

help: ## Show this text
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 20

setup: ## Make .venv with the pinned versions; install missing Debian packages (as root)
	@tools/setup

demo: setup ## Watch a Python job being checkpointed, killed and brought back
	@$(PYTHON) demo/demo.py

test: lint ## Setup, linters, then the whole test suite
	@$(PYTHON) -m pytest

test-kernel: setup ## Some tests under another kernel: KERNEL=6.1, 6.12 or 7.x, ARGS="tests/kernel -k pagemap"
	@$(PYTHON) tests/vm/run.py --kernel $(KERNEL) -- $(PYTHON) -m pytest -p no:cacheprovider $(ARGS)

torture: setup ## A million operations on memory for each tracker, other ones each time: about two hours
	@ICECORE_TORTURE_OPERATIONS=$${ICECORE_TORTURE_OPERATIONS:-1000000} \
	 ICECORE_TORTURE_SEED=$${ICECORE_TORTURE_SEED:-$$(date +%s)} \
	 $(PYTHON) -m pytest -s -o faulthandler_timeout=0 tests/torture

lint: setup ## ruff, mypy --strict and pyright strict over source and tests
	@$(PYTHON) -m ruff check .
	@$(PYTHON) -m ruff format --check .
	@$(PYTHON) -m mypy
	@$(PYTHON) -m pyright

format: setup ## Let ruff rewrite what it can
	@$(PYTHON) -m ruff check --fix .
	@$(PYTHON) -m ruff format .

bench: setup ## Measure pause, delta size and restore time beside their limits
	@$(PYTHON) bench/checkpoint.py; kept=$$?; $(PYTHON) -m bench.trackers && exit $$kept

clean: ## Remove .venv and every cache
	rm -rf .venv dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
