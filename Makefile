# Everything lives in .venv; `make PYTHON=python3.12 ...` picks the interpreter it is made from.
PYTHON ?= python3
# Extra arguments for pip (an index, --no-index, ...), `alula fly` and pytest.
PIP_ARGS ?=
ARGS ?=
PYTEST_ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
# A stamp is written only after its step has finished, so a broken install is done again.
MADE := $(VENV)/.made
INSTALLED := $(VENV)/.installed
INSTALLED_DEV := $(VENV)/.installed-dev

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help fly test test-slow check format bench clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12

fly: $(INSTALLED) ## train, check and export the default policy; ARGS="--preset l2f-hover" passes options
	$(BIN)/alula fly $(ARGS)

test: $(INSTALLED_DEV) ## run the tests
	$(BIN)/python -m pytest -m "not slow" $(PYTEST_ARGS)

test-slow: $(INSTALLED_DEV) ## run the tests that take longer: training runs, real logs
	$(BIN)/python -m pytest -m slow $(PYTEST_ARGS)

check: $(INSTALLED_DEV) ## check format, style and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright

format: $(INSTALLED_DEV) ## format and fix what can be fixed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(INSTALLED) ## measure the simulator and the training on this machine
	$(BIN)/alula bench sim
	$(BIN)/alula bench train

clean: ## remove .venv and caches; runs/ stays
	rm -rf $(VENV) build *.egg-info .pytest_cache .ruff_cache .hypothesis

$(MADE):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and \
	    "alula needs Python 3.11 or newer; try: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(INSTALLED): pyproject.toml $(MADE)
	$(BIN)/python -m pip install --quiet --editable . $(PIP_ARGS)
	@touch $@

$(INSTALLED_DEV): pyproject.toml $(MADE)
	$(BIN)/python -m pip install --quiet --editable ".[dev]" $(PIP_ARGS)
	@touch $(INSTALLED) $@
