# Each target makes its own environment when there is none.
PYTHON ?= python3
VENV ?= .venv
PIP = $(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
DEMO ?= demo
# Test processes at a time; each computes on one core.
TEST_PROCESSES ?= 2

.PHONY: demo test lint format docs clean

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(VENV)/bin/python pyproject.toml constraints.txt
	$(PIP) --editable .
	touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(PIP) --editable .[test]
	touch $@

$(VENV)/.installed-docs: $(VENV)/.installed
	$(PIP) --editable .[docs]
	touch $@

# a super-resolved image, a segmentation and a report from a thick-slice scan, into ./demo
demo: $(VENV)/.installed
	$(VENV)/bin/segsr demo $(DEMO)

test: $(VENV)/.installed-test
	OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest -n $(TEST_PROCESSES) --dist loadscope -m 'not container'
	$(VENV)/bin/python -m pytest -m container

lint: $(VENV)/.installed-test
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

format: $(VENV)/.installed-test
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

docs: $(VENV)/.installed-docs
	$(VENV)/bin/mkdocs build --strict

clean:
	rm -rf $(VENV) build dist site *.egg-info .mypy_cache .pytest_cache .ruff_cache
