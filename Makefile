# make demo     see it work in a minute          make lint     ruff and mypy
# make test     everything that must hold        make format   let ruff rewrite what it can
# make bench    against its peers; takes hours   make clean    remove what these made
# PYTHON=/path/to/python chooses the interpreter (3.11 or newer); PYTEST="-k resum" narrows the tests,
# BENCH="--quick" the benchmark (BENCH="--help" says how).

BIN := .venv/bin
PYTEST ?=
unexport PYTHONDONTWRITEBYTECODE  # the tests start hundreds of Pythons, which would each compile everything anew
BENCH ?=

.PHONY: help demo test bench lint format clean venv venv-dev

help:
	@sed -n '1,/^$$/s/^# \{0,1\}//p' Makefile

demo: venv
	@$(BIN)/peerauth demo

test: lint
	$(BIN)/pytest -n 2 --dist worksteal $(PYTEST)

bench: venv
	$(BIN)/python -m benchmarks --page docs/benchmarks.md $(BENCH)

lint: venv-dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

format: venv-dev
	$(BIN)/ruff check --fix-only
	$(BIN)/ruff format

clean:
	rm -rf .venv .hypothesis .mypy_cache .pytest_cache .ruff_cache build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

venv:
	@PYTHON='$(PYTHON)' sh .ci/venv

venv-dev:
	@PYTHON='$(PYTHON)' sh .ci/venv dev
