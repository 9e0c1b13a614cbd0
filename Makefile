# SPDX-License-Identifier: Apache-2.0
# Everything that is not in `make help` is an inner detail.

PYTHON := .venv/bin/python

# Compiled modules go into .venv: a target run as root leaves nothing of root's in the tree but that.
export PYTHONPYCACHEPREFIX := $(CURDIR)/.venv/pycache

.PHONY: help setup demo test lint format bench clean

help: ## Show this text
	@sed -n 's/^\([a-z]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 16

setup: ## Make .venv with the pinned versions; install missing Debian packages (as root)
	@tools/setup

demo: setup ## Watch a Python job being checkpointed, killed and brought back
	@$(PYTHON) demo/demo.py

test: lint ## Setup, linters, then the whole test suite
	@$(PYTHON) -m pytest

lint: setup ## ruff, mypy --strict and pyright strict over source and tests
	@$(PYTHON) -m ruff check .
	@$(PYTHON) -m ruff format --check .
	@$(PYTHON) -m mypy
	@$(PYTHON) -m pyright

format: setup ## Let ruff rewrite what it can
	@$(PYTHON) -m ruff check --fix .
	@$(PYTHON) -m ruff format .

bench: setup ## Measure pause, delta size and restore time beside their limits
	@$(PYTHON) bench/checkpoint.py

clean: ## Remove .venv and every cache
	rm -rf .venv dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
