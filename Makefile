# Two commands on a fresh machine with Python 3.11 and make: `make demo` and `make test`.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
APP_READY := $(VENV)/.app-ready
RAY_READY := $(VENV)/.ray-ready
# A process for each core, eight at most; one that is done takes tests from another.
SIDE_BY_SIDE := -n logical --maxprocesses 8 --dist worksteal

.PHONY: demo test test-slow test-app test-ray app-ready lint bench lock lock-app lock-ray clean

demo: $(READY)
	$(BIN)/harkback demo

test: $(READY)
	$(BIN)/python -m pytest $(SIDE_BY_SIDE)

test-slow: $(READY)
	$(BIN)/python -m pytest -m slow

# The app's page in a browser, and its HTTP interface fuzzed. With what that needs, `make test` runs them too.
test-app: app-ready
	$(BIN)/python -m pytest -m app $(SIDE_BY_SIDE)

# Beyond one machine: on Ray clusters that the tests start here; by torchrun; merged statistics; clips in S3 (of the
# test's own) and Parquet; the recipes.
BEYOND := $(addprefix tests/unit/test_,parallel.py merging.py parquet.py s3.py cluster_recipes.py) tests/e2e/test_torchrun.py
test-ray: $(RAY_READY)
	$(BIN)/python -m pytest -m ray
	$(BIN)/python -m pytest --slow $(BEYOND)

lint: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

# Speed, memory and scaling beside the last record; `python -m benchmarks --record` makes another (benchmarks/README.md).
bench: $(READY)
	$(BIN)/python -m benchmarks

# torch first and pinned: without a pin pip may take the newest build, with gigabytes that nobody asked for.
$(READY): requirements.lock pyproject.toml
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "$$(grep '^torch==' requirements.lock)"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $@

app-ready: $(APP_READY)
	@for name in chromium chromium-browser google-chrome; do command -v $$name > /dev/null && exit 0; done; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get > /dev/null; then \
	  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends chromium > /dev/null; \
	else echo "The app's tests need a browser: install chromium (Debian: apt-get install chromium)." >&2; exit 1; fi

$(APP_READY): $(READY) requirements-app-test.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c requirements.lock -r requirements-app-test.lock
	touch $@

$(RAY_READY): $(READY) requirements-ray-test.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c requirements.lock -r requirements-ray-test.lock
	touch $@

# Write a lock anew: from an environment that has everything; the tests' own from one that has them alone, besides.
FREEZE := $(BIN)/python -m pip freeze --exclude-editable | grep -v '^-e' | sed 's/+cpu$$//' | LC_ALL=C sort -f
UNLESS_IN := awk -F== 'FILENAME != "-" { known[tolower($$1)]; next } !(tolower($$1) in known)'
lock:
	$(FREEZE) | $(UNLESS_IN) requirements-app-test.lock requirements-ray-test.lock - > requirements.lock

lock-app:
	$(FREEZE) | $(UNLESS_IN) requirements.lock - > requirements-app-test.lock

lock-ray:
	$(FREEZE) | $(UNLESS_IN) requirements.lock - > requirements-ray-test.lock

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache harkback-runs
