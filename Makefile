# make demo    compile and execute a small LLM on a defective mesh
# make test    ruff, mypy --strict and pytest
# make lint    ruff and mypy --strict alone
# make bench   compile times, run times and cycles of the reference models; quality of placement (ten minutes)
# make conformance   the official node tests of ONNX, all of them; writes docs/conformance.md (three minutes)
#
# Each target sets up .venv by itself, once for each change of pyproject.toml; after that nothing needs the network.

# The first interpreter that is new enough and can make virtual environments; override with `make PYTHON=...`.
CANDIDATES := python3 python3.14 python3.13 python3.12 python3.11 python
PROBE := import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(firstword $(foreach p,$(CANDIDATES),$(shell $(p) -c '$(PROBE)' >/dev/null 2>&1 && echo $(p))))

VENV := .venv
BIN := $(VENV)/bin
# The three root folders are linted under the names they are installed by, so that relative imports resolve.
CODE := wafercc wafercc/passes wafercc/runtime wafercc/models tests $(wildcard benchmarks)

.PHONY: demo test lint bench conformance clean
.DEFAULT_GOAL := test

demo: $(VENV)/.runs
	$(BIN)/python -m wafercc.models.demo

test: lint
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile

lint: $(VENV)/.tests
	$(BIN)/ruff check $(CODE)
	$(BIN)/mypy

bench: $(VENV)/.tests
	@test -f benchmarks/bench.py || { echo "no benchmarks yet: benchmarks/bench.py does not exist" >&2; exit 1; }
	$(BIN)/python -m benchmarks.bench

conformance: $(VENV)/.tests
	$(BIN)/python -m wafercc.conformance

clean:
	rm -rf $(VENV) build dist wafercc.egg-info demo-out .mypy_cache .ruff_cache .pytest_cache .hypothesis

# A virtual environment whose interpreter is gone (a moved folder, an upgraded Python) is made anew.
define install
	@test -n "$(PYTHON)" || { echo "wafercc needs Python 3.11 or newer with venv: install it, or set PYTHON=..." >&2; exit 1; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '$(1)'
	@touch $@
endef

$(VENV)/.runs: pyproject.toml
	$(call install,.)

$(VENV)/.tests: pyproject.toml
	$(call install,.[test])
	@touch $(VENV)/.runs
