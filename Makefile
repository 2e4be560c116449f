# Two commands do everything: `make demo` and `make test`. Both make the environment first, in .venv.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.made

.PHONY: help env demo test test-nfs check format lint types contracts bench rehearse golden lock clean

help:  ## say what there is to make
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1	\2/p' $(MAKEFILE_LIST) | expand -t 16

env: $(STAMP)  ## make the environment from the lock file

$(STAMP): requirements.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps -e .
	@touch $(STAMP)

demo: $(STAMP)  ## assemble a small KPF night and show what came of it
	@$(BIN)/python fixtures/demo.py demo

test: $(STAMP)  ## run all tests
	$(BIN)/python -m pytest -n auto

test-nfs: $(STAMP)  ## run the tests that need a real NFS, on one that is made for them
	@# RIG=--or-pass: no failure where this host cannot do it
	@$(BIN)/python tests/nfs/rig.py --limit 420 $(RIG) \
	  $(CURDIR)/$(BIN)/python -m pytest -p no:cacheprovider -o faulthandler_timeout=200 --durations=5 tests/nfs

check: $(STAMP)  ## format, lint, types, import contracts, tests with doctests: what CI runs
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -n auto

format: $(STAMP)  ## format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(STAMP)  ## compare with cat, astropy and fitsio, make nights, ask long histories, and time the watcher
	$(BIN)/python bench/bench.py
	$(BIN)/python bench/night.py
	$(BIN)/python bench/history.py
	$(BIN)/python bench/latency.py

rehearse: $(STAMP)  ## play 1000 exposures to the watcher, one in ten in trouble; kill it 100 times; 10 000 exposures for its memory, and for that of a batch
	$(BIN)/python bench/rehearsal.py --exposures 1000 --speed 20 --trouble 10
	$(BIN)/python bench/rehearsal.py --exposures 120 --spacing 20 --speed 20 --trouble 10 --kills 100
	$(BIN)/python bench/endurance.py
	$(BIN)/python bench/endurance_night.py

golden: $(STAMP)  ## renew the golden files, for review with git diff
	$(BIN)/python -m pytest -q tests/core/test_golden.py tests/core/test_corrections.py tests/test_archive.py tests/test_diff.py tests/test_status.py --renew-golden

lock: $(STAMP)  ## pin the newest versions that pyproject.toml allows
	$(BIN)/python -m pip install --quiet pip-tools
	$(BIN)/pip-compile --quiet --upgrade --generate-hashes --allow-unsafe --strip-extras --extra dev \
	  --no-emit-index-url --no-emit-trusted-host --no-emit-find-links --no-header --output-file requirements.lock pyproject.toml

clean:  ## remove the environment and what was made
	rm -rf $(VENV) demo build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
