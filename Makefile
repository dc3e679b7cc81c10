# Everything a checkout can do. Each target first installs what it needs into .venv, and only when the lock changed.
PYTHON ?= python3
BIN := .venv/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)
export MLFLOW_DISABLE_TELEMETRY := true
export DO_NOT_TRACK := 1
EXPERIMENTS ?= diabetes
DIST ?= dist
JUPYTER := $(CURDIR)/lib/labkit/run/kernels/jupyter
# What a saved notebook carries besides its cells: outputs, counts, run times, the look of the editor.
NOTEBOOKS = $(wildcard notebooks/*.ipynb notebooks/*/*.ipynb)
STRIP := --keep-id --extra-keys "metadata.papermill cell.metadata.papermill metadata.widgets cell.metadata.execution"

.DEFAULT_GOAL := help
.PHONY: help install run test test-quick bench lab pictures check format lock docs dist audit clean

help:  ## show this help
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1 \t/' | expand -t 20

install: .venv/installed  ## make .venv with the locked packages and this checkout

.venv/installed: requirements.lock pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet uv
	uv pip install --quiet --compile-bytecode --python $(BIN)/python --require-hashes -r requirements.lock
	uv pip install --quiet --python $(BIN)/python --no-deps -e .
	@touch $@

run: install  ## run the whole pipeline and show the results
	@labkit run $(EXPERIMENTS)

test: install  ## run every test
	python -m pytest

test-quick: install  ## run the tests without marker slow, browser or fault
	python -m pytest -m "not slow and not browser and not fault"

bench: install  ## measure the engine beside the bare tools, about half an hour
	python benchmarks/engine.py

lab: install  ## open JupyterLab on the board; kernels start with everything imported
	@labkit warm & \
	JUPYTER_PATH=$(JUPYTER) JUPYTER_CONFIG_PATH=$(JUPYTER) jupyter lab --ServerApp.ip=127.0.0.1 \
	  --ServerApp.root_dir=$(CURDIR) --LabApp.default_url=/lab/tree/notebooks/00_board.ipynb

pictures: install  ## make the pictures of the README again, about two minutes
	python .github/pictures.py

check: install  ## format, lint, types, notebooks and params schema: the gate before every commit
	ruff format --check lib tests benchmarks docs .github
	ruff check lib tests benchmarks docs .github
	mypy -n 2
	nbstripout --verify $(STRIP) $(NOTEBOOKS)

format: install  ## put code and notebooks into the house style
	ruff format lib tests benchmarks docs .github
	ruff check --fix lib tests benchmarks docs .github
	nbstripout $(STRIP) $(NOTEBOOKS)

lock:  ## resolve the newest allowed versions into requirements.lock
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet uv
	uv pip compile --quiet --upgrade --universal --generate-hashes --no-annotate --no-header --no-emit-index-url \
	  --no-emit-find-links --python-version 3.11 --extra pycaret --extra s3 --extra postgresql --extra cluster --group dev pyproject.toml -o requirements.lock

docs: install  ## build the documentation site into docs/_build/, which opens without a server
	sphinx-build -q -W --keep-going -d .labkit/doctrees docs docs/_build
	@echo docs/_build/index.html

dist: install  ## build wheel and sdist of labkit into dist/, which install without an index
	uv build --quiet --clear --no-create-gitignore --no-build-isolation --offline --python $(BIN)/python --out-dir $(DIST)

audit: install  ## look up known vulnerabilities of the locked packages; needs pypi.org
	uvx pip-audit@2.10.1 --requirement requirements.lock --require-hashes --disable-pip

clean:  ## remove everything that the targets above can make again
	rm -rf .venv .labkit dist build docs/_build .mypy_cache .ruff_cache .pytest_cache mlruns mlflow.db .dvc/cache .dvc/tmp
	rm -rf data/*/fingerprint data/*/raw data/*/eda data/*/clean data/*/features data/*/model data/*/evaluation data/*/release
	rm -rf data/*/scratch reports/* dvc.lock
	find . -name __pycache__ -prune -exec rm -rf {} +
