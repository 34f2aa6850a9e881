# Tests run one process a core, each on one thread.
# `make test` and `make demo` are each the whole set-up: a venv, the CPU build of torch, the package.
# `make test-all` adds the libraries of every export format (some 3 GB) and runs the tests that take long as well.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
STAMP_ALL := $(VENV)/.installed-all
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: setup test test-all lint types floors demo docs release audit licenses bench-gpu export-all fuzz clean
setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(INSTALL) torch
	$(INSTALL) -e ".[dev]"
	touch $(STAMP)

$(STAMP_ALL): $(STAMP)
	$(INSTALL) -e ".[dev,export,int8]"
	-$(BIN)/python -c "from yolopose.formats.web import fetch_runtime; fetch_runtime()"  # else its tests are skipped
	touch $(STAMP_ALL)

test: lint types floors
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -rs -n auto -m "not slow"

test-all: lint types floors $(STAMP_ALL)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -rs -n auto --dist worksteal

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup
	$(BIN)/pyright

floors: setup
	$(BIN)/lint-imports

demo: setup
	$(BIN)/python examples/demo.py

# the documentation site in build/site; a dead link or a page without a place in the navigation is an error
docs: setup
	$(BIN)/python tools/build_docs.py

# a signed tag from the version in _version.py and its section of the changelog; DRY_RUN=1 creates no tag
release: setup
	$(INSTALL) build twine
	$(BIN)/python tools/release.py tag $(if $(DRY_RUN),--dry-run)

# known vulnerabilities and licenses of the dependencies, in a clean environment
audit licenses: setup
	$(INSTALL) build
	$(BIN)/python -m build --wheel
	$(BIN)/python tools/supply_chain.py $@

# training on a CUDA GPU beside the bare network: make bench-gpu DATA=my-data.yaml; torch must be a CUDA build
bench-gpu: setup
	$(BIN)/python benchmarks/gpu.py --data $(or $(DATA),figures-pose.yaml)

# every format with 32, 16 and 8 bits and with built-in NMS, read back and measured; MODEL= and DATA= are weights
# and a data YAML of yours
export-all: $(STAMP_ALL)
	$(BIN)/python benchmarks/export_all.py --model $(or $(MODEL),../shared/checkpoints/yolo11n-pose.pt) \
		--data $(or $(DATA),../shared/data/coco-mini/coco-mini.yaml)

# hostile files and requests for MINUTES=10, by hypothesis and, where it can be installed, by atheris; SEED=0
fuzz: setup
	-$(INSTALL) atheris
	OMP_NUM_THREADS=1 $(BIN)/python fuzz/run.py --minutes $(or $(MINUTES),10) --seed $(or $(SEED),0)

clean:
	rm -rf $(VENV) demo .pytest_cache .ruff_cache .hypothesis build dist
