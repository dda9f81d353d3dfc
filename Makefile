# Needs Python 3.11 or newer with venv, and nothing else. CONTRIBUTING.md has the bare commands, for Windows.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

# The clients that the tests run as black boxes get an environment of their own: their dependencies are not ours.
CLIENTS = $(VENV)-clients

# The emulator of other processors: the one on the PATH, or Debian's, unpacked here and not installed.
QEMU = $(VENV)-qemu

.PHONY: serve test test-cpus check fix bench-engine clean

serve: $(VENV)/serve.installed  ## install what serving needs, and serve
	@$(BIN)/foundry-lite serve $(ARGS)

test: $(VENV)/dev.installed $(CLIENTS)/installed $(CLIENTS)/node.tried $(QEMU)/tried  ## install everything, and run the whole suite
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(ARGS)

test-cpus: $(VENV)/dev.installed $(QEMU)/tried  ## the numbers of small models on emulated processors without VNNI or AVX
	FOUNDRY_LITE_TEST_CPUS=1 $(BIN)/python -m pytest tests/integration/test_processors.py $(ARGS)

check: $(VENV)/dev.installed  ## lint, types, layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

fix: $(VENV)/dev.installed  ## repair what can be repaired mechanically
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/python -m tests.docs.cli_reference

# The other engines get an environment of their own; benchmarks/README.md says how to add OpenVINO's model and a
# llama-server built here: make bench-engine ARGS="--llama-server ... --openvino ... --rounds 5"
PEERS = $(VENV)-peers
SHAPE ?= qwen2.5-0.5b
MODELS = $(PEERS)/models/$(SHAPE)

bench-engine: $(MODELS)/model.gguf $(MODELS)/home/models/random  ## this engine beside others, on random weights
	$(BIN)/python -m benchmarks.engines --home $(MODELS)/home --model random --gguf $(MODELS)/model.gguf \
	  --llama-python $(PEERS)/bin/python --openvino-python $(PEERS)/bin/python $(ARGS)

$(MODELS)/hf/model.safetensors: | $(VENV)/dev.installed
	$(BIN)/python benchmarks/random_model.py --shape $(SHAPE) --out $(@D)

$(MODELS)/home/models/random: $(MODELS)/hf/model.safetensors
	FOUNDRY_LITE_HOME=$(MODELS)/home $(BIN)/foundry-lite import $(<D) --name random --block-size 128

$(MODELS)/model.gguf: $(MODELS)/hf/model.safetensors | $(PEERS)/installed
	$(PEERS)/bin/python benchmarks/gguf_file.py $(<D) $@

$(PEERS)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --editable ".[bench]"
	@touch $@

$(QEMU)/tried:
	@mkdir -p $(QEMU)
	@if command -v qemu-x86_64 >/dev/null || command -v qemu-x86_64-static >/dev/null; then :; \
	elif [ "$$(uname -sm)" = "Linux x86_64" ] && command -v apt-get >/dev/null && command -v dpkg >/dev/null; then \
	  cd $(QEMU) && { apt-get download -qq qemu-user-static 2>/dev/null \
	    || { [ "$$(id -u)" = 0 ] && apt-get update -qq && apt-get download -qq qemu-user-static; }; } \
	  && dpkg --fsys-tarfile qemu-user-static*.deb | tar x ./usr/bin/qemu-x86_64-static && rm qemu-user-static*.deb \
	  || echo "make: qemu-user-static could not be fetched; tests of other processors will be skipped"; fi
	@touch $@

clean:
	rm -rf $(VENV) $(QEMU) $(CLIENTS) $(PEERS) dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/serve.installed: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(INSTALL) --editable .
	@touch $@

$(VENV)/dev.installed: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(INSTALL) --editable ".[build,dev]"
	@touch $@ $(VENV)/serve.installed

$(CLIENTS)/installed: tests/clients/requirements.txt
	$(PYTHON) -m venv $(CLIENTS)
	$(CLIENTS)/bin/python -m pip install --quiet --disable-pip-version-check --no-compile --no-deps -r $<
	@touch $@

# Without node and npm, or without npm's registry, the tests of the client for Node are skipped, and say so.
$(CLIENTS)/node.tried: tests/clients/package.json | $(CLIENTS)/installed
	@mkdir -p $(CLIENTS)/node && cp $< $(CLIENTS)/node/
	@if command -v node >/dev/null && command -v npm >/dev/null; then \
	  npm install --prefix $(CLIENTS)/node --no-package-lock --no-audit --no-fund --loglevel=error \
	  || echo "make: npm could not install the client for Node; its tests will be skipped"; fi
	@touch $@
