# make demo   everything on a fresh machine: set-up, data, teacher, students, comparison, pictures
# make test   set-up and the test suite;  make lint   ruff and mypy;  make bench   benchmarks
PYTHON ?= python3
VENV ?= .venv
RUN = $(VENV)/bin/python

.PHONY: demo pictures test slow lint bench clean
demo: $(VENV)/runtime
	$(RUN) -m tools.demo

# The README's pictures, out of a demonstration; needs Chromium.
pictures: $(VENV)/runtime
	$(RUN) -m tools.demo.pictures

test: $(VENV)/dev
	$(RUN) -m pytest -n auto --maxprocesses 4 --dist worksteal $(ARGS)

slow: $(VENV)/dev
	$(RUN) -m pytest -m slow

lint: $(VENV)/dev
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

bench: $(VENV)/bench
	$(RUN) -m benchmarks.run $(ARGS)

clean:
	rm -rf $(VENV) logs/demo

# The marker files say which dependencies are in; pyproject.toml decides when they are stale.
$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/runtime: pyproject.toml | $(VENV)/bin/python
	$(VENV)/bin/pip install --quiet -e .
	touch $@

$(VENV)/bench: pyproject.toml | $(VENV)/bin/python
	$(VENV)/bin/pip install --quiet -e '.[bench]'
	touch $@ $(VENV)/runtime

$(VENV)/dev: pyproject.toml | $(VENV)/bin/python
	$(VENV)/bin/pip install --quiet -e '.[dev,tensorboard]'
	touch $@ $(VENV)/runtime
