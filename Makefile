# Every target needs only python3 (3.11 or newer) and a shell; `make help` lists them.
PYTHON ?= python3
WORKERS ?= 2
BIN := .venv/bin
PROMPT := --ServerApp.kernel_websocket_connection_class=devilgan_lite.cli.websocket.PromptConnection
ORDER := .venv/etc/ipython/ipython_config.py
NEWS := .venv/share/jupyter/lab/settings/overrides.json
PYTEST := $(BIN)/pytest -n $(WORKERS) --dist worksteal

# Small models on a busy machine: waiting threads must sleep. OMP_NUM_THREADS=4 make ... uses four.
export OMP_WAIT_POLICY := PASSIVE
export GOMP_SPINCOUNT := 0
export OMP_NUM_THREADS ?= 1
# Large arrays come and go: memory that is kept need not be cleared again (faces take half the time on some machines).
export MALLOC_MMAP_THRESHOLD_ := 1073741824
export MALLOC_TRIM_THRESHOLD_ := 4294967296

# make bench NAME=faces runs scripts/bench/faces.py; a script with _ in its name is a part of another
NAMES = $(sort $(foreach path,$(wildcard scripts/$(1)/*.py),$(if $(findstring _,$(notdir $(path))),,$(basename $(notdir $(path))))))
KIND := $(firstword $(filter bench build release,$(MAKECMDGOALS)))
ifneq ($(KIND),)
ifeq ($(filter $(call NAMES,$(KIND)),$(NAME)),)
$(error NAME='$(NAME)' is not valid: make $(KIND) takes NAME= one of $(call NAMES,$(KIND)))
endif
endif

.DEFAULT_GOAL := help
.PHONY: help setup tour test nightly lint pages format lab film stage notebooks bench build release clean

help:  ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@$(foreach kind,bench build release,printf '  make %-10s NAME=%s\n' $(kind) '$(subst $() , | ,$(call NAMES,$(kind)))';)

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

test: lint pages  ## lint, types, pages, every notebook once, contracts, oracles, a smoke of browser, jail and service
	$(PYTEST) -m "not nightly" --doctest-modules tests devilgan_lite

nightly: lint pages  ## everything: also hostile files, formats, faults, bundle, wheel, ART's tests, golden results (hours)
	$(PYTEST) --doctest-modules tests devilgan_lite
	PYTHONPATH=$(CURDIR)/tests/offline DEVILGAN_PROFILE=smoke $(BIN)/pytest -n $(WORKERS) --dist loadfile --nbval-lax --nbval-current-env --nbval-cell-timeout=300 notebooks
	$(BIN)/python scripts/bench/golden.py

lint: setup  ## ruff and mypy
	$(BIN)/ruff check . && $(BIN)/ruff format --check .
	$(BIN)/mypy

pages: setup  ## do the pages keep their word: links, quotes, numbers, commands; are the notebooks those of their sources
	$(BIN)/python scripts/build/pages.py
	$(BIN)/python scripts/build/notebooks.py --check

format: setup  ## let ruff put the code in order
	$(BIN)/ruff check --fix . && $(BIN)/ruff format .

lab: setup  ## open the notebooks in JupyterLab
	$(BIN)/jupyter lab $(PROMPT) notebooks

film: setup  ## the first moving picture: to the trigger, on and back (out/film.webp)
	$(BIN)/devilgan film

stage: setup  ## a page without code for a projector, with keys for the presenter
	$(BIN)/devilgan stage

notebooks: setup  ## rebuild and execute notebooks/*.ipynb from notebooks/src
	$(BIN)/python scripts/build/notebooks.py

bench build release: setup  # measure, make again or publish; ARGS=--help shows the options of a script
	$(BIN)/python scripts/$@/$(NAME).py $(ARGS)

clean:  ## remove what the other targets made, except .venv
	rm -rf out build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis .benchmarks
