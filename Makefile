# Every target needs only python3 (3.11 or newer) and a shell; `make help` lists them.
PYTHON ?= python3
WORKERS ?= 2
BIN := .venv/bin
PROMPT := --ServerApp.kernel_websocket_connection_class=devilgan_lite.cli.websocket.PromptConnection
ORDER := .venv/etc/ipython/ipython_config.py
NEWS := .venv/share/jupyter/lab/settings/overrides.json
PYTEST := $(BIN)/pytest -n $(WORKERS) --dist loadfile

# Small models on a busy machine: waiting threads must sleep. OMP_NUM_THREADS=4 make ... uses four.
export OMP_WAIT_POLICY := PASSIVE
export GOMP_SPINCOUNT := 0
export OMP_NUM_THREADS ?= 1

.DEFAULT_GOAL := help
.PHONY: help setup tour test quick lint format lab notebooks editions zoo bench population detect-bench sanitize-bench film stage site bundle stage-bench faces-bench style-bench runs-bench challenge-bench data features clean

help:  ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.venv/.ready: pyproject.toml
	$(PYTHON) -m venv .venv && $(BIN)/pip install --quiet --editable '.[notebooks,dev]'
	touch $@

$(NEWS): .venv/.ready
	mkdir -p $(@D) && echo '{"@jupyterlab/apputils-extension:notification": {"fetchNews": "false", "checkForUpdates": false}}' > $@

# a kernel that has run no cell yet: a missing name still gets the sentence that says which cell to run
$(ORDER): .venv/.ready
	mkdir -p $(@D) && cp scripts/build/ipython_config.py $@

setup: $(NEWS) $(ORDER)  ## make .venv and install everything into it (a few minutes, once)

tour: setup  ## the main job: all notebooks on real data, with the table of attacks (out/tour)
	$(BIN)/devilgan tour --out out/tour

test: lint  ## lint, types, tests, doctests, every notebook in the smoke profile
	$(PYTEST) --doctest-modules tests devilgan_lite
	PYTHONPATH=$(CURDIR)/tests/offline DEVILGAN_PROFILE=smoke $(PYTEST) --nbval-lax --nbval-current-env --nbval-cell-timeout=300 notebooks

quick: setup  ## the tests that take seconds
	$(PYTEST) -m "not slow" tests

lint: setup  ## ruff and mypy
	$(BIN)/ruff check . && $(BIN)/ruff format --check .
	$(BIN)/mypy

format: setup  ## let ruff put the code in order
	$(BIN)/ruff check --fix . && $(BIN)/ruff format .

lab: setup  ## open the notebooks in JupyterLab
	$(BIN)/jupyter lab $(PROMPT) notebooks

film: setup  ## the first moving picture: to the trigger and back (out/film.webp)
	$(BIN)/devilgan film

stage: setup  ## the explorer as a page without code, for a projector
	$(BIN)/devilgan stage

site: setup  ## the documentation as a site, with mystmd (out/site/html; needs node, and a network for the theme)
	$(BIN)/python scripts/release/website.py

bundle: setup  ## wheels, project and pages for a room without a network (out/bundle; docs/offline_bundle.md)
	$(BIN)/python scripts/release/bundle.py

faces-bench: setup  ## measure the faces: quality, inversion, attacks (docs/faces.md)
	$(BIN)/python scripts/bench/faces.py

style-bench: setup  ## calibrate and judge detection and cure on style-based networks (docs/detection_style.md, an hour)
	$(BIN)/python scripts/bench/style.py --calibrate --jobs $(WORKERS)

stage-bench: setup  ## measure explorer, trainer and stage in a real browser
	$(BIN)/python scripts/bench/stage.py

runs-bench: setup  ## measure sweeps: two workers against one, papermill alone, a thousand runs (docs/studies_bench.md)
	$(BIN)/python scripts/bench/runs.py

challenge-bench: setup  ## measure the challenge: taught methods against names, sizes and times (docs/challenge.md)
	$(BIN)/python scripts/bench/challenge.py --jobs $(WORKERS)

notebooks: setup  ## rebuild and execute notebooks/*.ipynb from notebooks/src
	$(BIN)/python scripts/build/notebooks.py
	$(BIN)/python scripts/build/teaching.py

editions: setup  ## the notebooks for students (no solutions) and for instructors (everything shown), in out/editions
	$(BIN)/python scripts/build/editions.py

zoo: setup  ## retrain the model zoo (data/zoo)
	$(BIN)/python scripts/build/zoo.py

bench: setup  ## measure the attacks
	$(BIN)/python scripts/bench/attacks.py

population: setup  ## train the models that the detectors are tuned and judged on (out/population, an hour or two)
	$(BIN)/python scripts/bench/population.py --jobs $(WORKERS)

sanitize-bench: population  ## treat the test models: table and curves of sanitization (docs/sanitization.md)
	$(BIN)/python scripts/bench/sanitize_curves.py --jobs $(WORKERS)
	$(BIN)/python scripts/bench/sanitize.py --jobs $(WORKERS)

detect-bench: population  ## scan the population, calibrate, and print the table of detection (docs/detection.md)
	$(BIN)/python scripts/bench/detect.py --calibrate --jobs $(WORKERS)

data: setup  ## rebuild data/fashion_mnist_10k.npz from full Fashion-MNIST
	$(BIN)/python scripts/build/data.py

features: setup  ## retrain the feature network behind the Frechet distance
	$(BIN)/python scripts/build/features.py

clean:  ## remove what the other targets made, except .venv
	rm -rf out build *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis .benchmarks
