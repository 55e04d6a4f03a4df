# Everything a newcomer needs: `make reproduce` and `make test` set up a virtual environment of their own.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
OUT ?= results/quick
# The environment is made again whenever one of these changes.
READY := $(VENV)/ready

.PHONY: reproduce test lint types bench clean

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "insitu needs Python 3.11 or newer; try make PYTHON=python3.12")'
	$(PYTHON) -m venv --clear $(VENV)
	PIP_CONSTRAINT=constraints.txt $(BIN)/pip install --quiet --disable-pip-version-check --editable '.[test]'
	touch $(READY)

reproduce: $(READY)
	$(BIN)/insitu reproduce --scale quick --out $(OUT)

test: lint types $(READY)
	$(BIN)/python -m pytest -n auto --dist worksteal

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY)
	$(BIN)/mypy

bench: $(READY)
	$(BIN)/python -m benchmarks

clean:
	rm -rf $(VENV) results/quick .pytest_cache .mypy_cache .ruff_cache
