# Each environment is set up once; its stamp carries the sum of pyproject.toml, so that a changed
# requirement sets it up again and an unchanged one costs nothing.  Another Python wants another
# environment: make test PYTHON=python3.13 VENV=.venv-3.13

PYTHON ?= python3
VENV ?= .venv
VENV_RAY ?= .venv-ray
VENV_BROWSER ?= .venv-browser
PYTEST_ARGS ?=
BENCH_ARGS ?=
LAB_ARGS ?=

BIN := $(VENV)/bin
KEY := $(firstword $(shell cksum pyproject.toml))
PIP := python -m pip --disable-pip-version-check --quiet
NBVAL := --nbval --nbval-current-env --nbval-sanitize-with notebooks/nbval_sanitize.cfg --nbval-cell-timeout 120 --timeout 150
QUICKSTART := 01-quickstart

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help run lab test test-browser test-compat test-ray bench lint format clean distclean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "make %-12s %s\n", $$1, $$2}' Makefile

run: $(VENV)/.test-$(KEY) ## set up .venv and run the quickstart notebook here, on a cluster of its own
	@$(BIN)/python tools/run_notebook.py notebooks/$(QUICKSTART).ipynb --output build/$(QUICKSTART).executed.ipynb

lab: $(VENV)/.lab-$(KEY) ## open JupyterLab on the notebooks
	$(BIN)/jupyter lab $(if $(filter 0,$(shell id -u)),--allow-root) $(LAB_ARGS) notebooks

test-compat: $(VENV)/.compat-$(KEY) ## run libraries and programs written for Ray on jray
	$(BIN)/python -m pytest tests/compat $(PYTEST_ARGS)

# One process at a time: behaviour tests start clusters of their own, and would share the CPUs they count on.
# Both suites run even if the first fails, and either failing fails the target.
test: $(VENV)/.test-$(KEY) ## run all tests, then the notebooks against their saved outputs
	@status=0; \
	$(BIN)/python -m pytest --ignore=tests/compat/test_libraries.py --ignore=tests/compat/test_dask.py --ignore=tests/browser \
		$(PYTEST_ARGS) || status=$$?; \
	JRAY_NONINTERACTIVE=1 JRAY_REPORT_TIMEOUT_S=30 $(BIN)/python -m pytest $(NBVAL) notebooks || status=$$?; \
	exit $$status

test-browser: $(VENV_BROWSER)/.test-browser-$(KEY) ## run the notebooks in JupyterLab and Notebook, in Chromium
	$(VENV_BROWSER)/bin/python -m pytest tests/browser $(PYTEST_ARGS)

test-ray: $(VENV_RAY)/.test-ray-$(KEY) ## run the behaviour tests on Ray itself
	JRAY_TEST_ENGINE=ray $(VENV_RAY)/bin/python -m pytest tests/behaviour $(PYTEST_ARGS)

bench: $(VENV)/.test-$(KEY) $(VENV_RAY)/.test-ray-$(KEY) ## measure jray beside Ray and write benchmarks/README.md
	$(BIN)/python -m benchmarks --ray-python $(VENV_RAY)/bin/python $(BENCH_ARGS)

lint: $(VENV)/.dev-$(KEY) ## check style and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

format: $(VENV)/.dev-$(KEY) ## format the code and mend what ruff can mend
	$(BIN)/ruff check --fix-only
	$(BIN)/ruff format

clean: ## remove what builds and tests left
	rm -rf build dist .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -path './.venv*' -prune -o -name __pycache__ -type d -exec rm -rf {} +

distclean: clean ## remove the environments too
	rm -rf $(VENV) $(VENV_BROWSER) $(VENV_RAY)

comma := ,
define set-up
	@echo "Setting up $(@D) with [$(1)]: a minute or so, once"
	@$(PYTHON) -m venv $(@D)
	@$(@D)/bin/$(PIP) install --editable '.[$(1)]'
	@find $(@D) -mindepth 1 -maxdepth 1 -name '.*-[0-9]*' ! -name '*-$(KEY)' -delete
	@touch $@
endef

$(VENV)/.test-$(KEY):
	$(call set-up,test)

$(VENV)/.compat-$(KEY):
	$(call set-up,test$(comma)compat)

$(VENV)/.lab-$(KEY):
	$(call set-up,test$(comma)lab)

$(VENV)/.dev-$(KEY):
	$(call set-up,test$(comma)dev)

$(VENV_BROWSER)/.test-browser-$(KEY):
	$(call set-up,test$(comma)browser)

$(VENV_RAY)/.test-ray-$(KEY):
	$(call set-up,test$(comma)reference)
