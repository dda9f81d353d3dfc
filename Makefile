# Needs Python 3.11 or newer with venv, and nothing else. CONTRIBUTING.md has the bare commands, for Windows.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: serve test check fix clean

serve: $(VENV)/serve.installed  ## install what serving needs, and serve
	@$(BIN)/foundry-lite serve $(ARGS)

test: $(VENV)/dev.installed  ## install everything, and run the whole suite
	$(BIN)/python -m pytest $(ARGS)

check: $(VENV)/dev.installed  ## lint, types, layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

fix: $(VENV)/dev.installed  ## repair what can be repaired mechanically
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/python -m tests.docs.cli_reference

clean:
	rm -rf $(VENV) dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/serve.installed: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(INSTALL) --editable .
	@touch $@

$(VENV)/dev.installed: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(INSTALL) --editable ".[build,dev]"
	@touch $@ $(VENV)/serve.installed
