PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed
WEIGHTS := $(wildcard weights/starter/mtmsa_lightning_starter/network/model.safetensors)
unexport PYTHONDONTWRITEBYTECODE  # the processes that tests start would compile the package again

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-fast lint types plots bench bench-gpu gpu-day bench-compare docs docs-serve clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

setup: $(INSTALLED) $(if $(WEIGHTS),.venv/.starter)  ## create .venv with the tested versions of all packages

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "mtmsa-lightning needs Python 3.11 or newer: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	@echo "installing (about 6 GB with torch's CUDA libraries; a few minutes)"
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@# the face detector's package installs the OpenCV that needs libGL: restore the headless one
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --force-reinstall --no-deps opencv-python-headless
	@touch $@

.venv/.starter: $(INSTALLED) $(WEIGHTS) weights/starter/pyproject.toml
	$(BIN)/python -m pip install --quiet --no-build-isolation --no-deps --no-index --force-reinstall ./weights/starter
	@touch $@

demo: setup  ## train on synthetic faces, four minutes on two cores
	$(BIN)/mtmsa fit --config demo.yaml

test: setup  ## run all tests, on all cores
	$(BIN)/python -m pytest -n auto --dist worksteal

test-fast: setup  ## run the tests that take less than five seconds each
	$(BIN)/python -m pytest -n auto --dist worksteal -m 'not slow'

lint: setup  ## check style, format and the order of imports between folders
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-logo --no-cache

types: setup  ## check types
	$(BIN)/mypy
	$(BIN)/mypy --allow-untyped-calls --no-warn-return-any --no-warn-unused-ignores benchmarks

plots: setup  ## draw the plots of README and benchmarks
	$(BIN)/python docs/plots.py
	$(BIN)/python benchmarks/receptive_field.py --size 448 --draws 4 --out docs/receptive_field.png

bench: setup  ## run all benchmarks, about ten minutes on two idle cores
	$(BIN)/python benchmarks/bench.py --json bench.json

bench-gpu: setup  ## run the benchmarks that use a GPU
	$(BIN)/python benchmarks/bench.py --gpu --json bench-gpu.json

gpu-day: setup  ## benchmarks and attention study on a GPU, about 12 minutes: make gpu-day FACES=folder
	$(BIN)/python benchmarks/gpu_day.py $(if $(FACES),--faces $(FACES))

bench-compare:  ## list what got worse: make bench-compare BEFORE=old.json AFTER=bench.json
	$(BIN)/python benchmarks/compare.py $(BEFORE) $(AFTER)

docs: setup  ## build the documentation in build/docs, with warnings as errors
	$(BIN)/python -m sphinx -c docs -d build/doctrees -n -W --keep-going -q . build/docs

docs-serve: docs  ## show the documentation at http://127.0.0.1:8000
	$(BIN)/python -m http.server --bind 127.0.0.1 --directory build/docs 8000

clean:  ## remove the environment and caches (never data or runs)
	rm -rf build/docs build/doctrees .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis
