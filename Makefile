# Six verbs run everything: demo, test, lint, format, bench, clean.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin

.PHONY: demo test sim leaks drill lint format bench clean

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "enginery needs Python 3.11 or later; say which: make PYTHON=/path/to/python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"

# Stamps, so that a second `make` installs nothing.
$(VENV)/.run: $(BIN)/python pyproject.toml
	# (the warning is of a folder here named like the package, of which there is none)
	PYTHONWARNINGS="ignore:Editable installation" $(BIN)/python -m pip install --quiet --editable .
	touch $@

$(VENV)/.test: $(VENV)/.run
	$(BIN)/python -m pip install --quiet --group test
	touch $@

$(VENV)/.lint: $(VENV)/.run
	$(BIN)/python -m pip install --quiet --group lint
	touch $@

demo: $(VENV)/.run  ## a cluster of 8 engines measures every module of the standard library
	$(BIN)/python docs/examples/demo.py

test: $(VENV)/.test  ## all tests, two files at a time: most of them wait
	$(BIN)/python -m pytest -n 2 --dist loadfile

sim: $(VENV)/.test  ## the simulated cluster over many seeds
	ENGINERY_SIM_SEEDS=10000 $(BIN)/python -m pytest tests/sim

leaks: $(VENV)/.test  ## 10,000 rounds of objects made, held and dropped, and what is left of them
	ENGINERY_LEAK_ROUNDS=10000 $(BIN)/python -m pytest tests/integration/test_leaks.py

drill: $(VENV)/.run  ## half an hour of faults, and an account of a million tasks; DRILL_SEED=n for the same faults again
	$(BIN)/cluster drill --minutes 30 $(if $(DRILL_SEED),--seed $(DRILL_SEED))

lint: $(VENV)/.lint
	$(BIN)/python -m ruff check
	$(BIN)/python -m ruff format --check
	$(BIN)/python -m mypy

format: $(VENV)/.lint
	$(BIN)/python -m ruff format
	$(BIN)/python -m ruff check --fix

bench: $(VENV)/.run  ## every row of the budget, peers included, as a table
	$(BIN)/python -m pip install --quiet numpy
	$(BIN)/python benchmarks/run.py

clean:
	rm -rf $(VENV) .bench build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
