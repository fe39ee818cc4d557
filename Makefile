# make demo   sets up .venv (once) and folds a real example
# make test   sets up .venv (once) and runs the tests
# make lint   ruff and pyright

PYTHON ?= python3
VENV := .venv
PIP := $(VENV)/bin/python -m pip --disable-pip-version-check
OUT ?= predictions
JOBS ?= 2

.PHONY: demo test lint clean

demo: $(VENV)/.seedfold
	$(VENV)/bin/seedfold predict examples/protein_ligand_ion.yaml -o $(OUT) --samples 2 --sdf

# In the order of the files: the longest single tests would else come last, on one core.
test: $(VENV)/.dev
	$(VENV)/bin/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder

lint: $(VENV)/.dev
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/pyright --pythonpath $(VENV)/bin/python

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "SeedFold needs Python 3.11 or newer; found $$($(PYTHON) --version). Try: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.seedfold: $(VENV)/bin/python pyproject.toml constraints.txt
	$(PIP) install -q -c constraints.txt -e .
	@touch $@

$(VENV)/.dev: $(VENV)/.seedfold
	$(PIP) install -q -c constraints.txt -e '.[dev]'
	@touch $@

clean:
	rm -rf $(VENV) build *.egg-info
