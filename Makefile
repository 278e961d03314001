# Each target makes its own environment when there is none.
PYTHON ?= python3
VENV ?= .venv
PIP = $(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
DEMO ?= demo
TRAIN_DEMO ?= train-demo
# Test processes at a time; each computes on one core.
TEST_PROCESSES ?= 2
# Where and how a wheel is tried.
RELEASE ?= /tmp/bids_segsr-release
RELEASE_PIP ?= -c constraints.txt

.PHONY: demo train-demo test test-units test-container lint format docs release-check clean

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || \
	  { echo "bids_segsr needs Python 3.11 to 3.13; name one: make PYTHON=python3.12 ..."; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(VENV)/bin/python pyproject.toml constraints.txt
	$(PIP) --editable .
	touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(PIP) --editable .[test]
	touch $@

$(VENV)/.installed-release: $(VENV)/bin/python pyproject.toml constraints.txt
	$(PIP) 'build>=1.2' 'twine>=6.1'
	touch $@

$(VENV)/.installed-docs: $(VENV)/.installed
	$(PIP) --editable .[docs]
	touch $@

# a super-resolved image, a segmentation and a report from a thick-slice scan, into ./demo
demo: $(VENV)/.installed
	$(VENV)/bin/segsr demo $(DEMO)

# a training of SegSRGAN on two small volumes, some minutes, up to its report, into ./train-demo
train-demo: $(VENV)/.installed
	$(VENV)/bin/segsr demo --train $(TRAIN_DEMO)

test: test-units test-container

test-units: $(VENV)/.installed-test
	OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest -n $(TEST_PROCESSES) --dist loadscope --durations 20 -m 'not container'

test-container: $(VENV)/.installed-test
	$(VENV)/bin/python -m pytest --durations 20 -m container

lint: $(VENV)/.installed-test
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

format: $(VENV)/.installed-test
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

docs: $(VENV)/.installed-docs
	NO_MKDOCS_2_WARNING=1 $(VENV)/bin/mkdocs build --strict

# what a user of the wheel gets, in an empty environment outside of the repository
release-check: $(VENV)/.installed-release
	rm -rf dist build $(RELEASE)
	$(VENV)/bin/python -m build
	$(VENV)/bin/python -m twine check --strict dist/*
	$(PYTHON) -m venv $(RELEASE)/venv
	$(RELEASE)/venv/bin/python -m pip install --quiet $(RELEASE_PIP) dist/*.whl
	cd $(RELEASE) && venv/bin/bids_segsr --version && venv/bin/segsr models verify && venv/bin/segsr recipes list
	cd $(RELEASE) && venv/bin/segsr demo demo

clean:
	rm -rf $(VENV) build dist site *.egg-info .mypy_cache .pytest_cache .ruff_cache
