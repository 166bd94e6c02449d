# Two commands on a fresh machine with Python 3.11 and make: `make demo` and `make test`.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
APP_READY := $(VENV)/.app-ready
RAY_READY := $(VENV)/.ray-ready
TOOLS := .venv-tools
TOOLS_READY := $(TOOLS)/.ready
# A process for each core, eight at most; one that is done takes tests from another.
SIDE_BY_SIDE := -n logical --maxprocesses 8 --dist worksteal

.PHONY: demo test test-slow test-app test-ray app-ready lint bench lock audit sbom licences dist docs test-oldest clean

demo: $(READY)
	$(BIN)/harkback demo

test: $(READY)
	$(BIN)/python -m pytest $(SIDE_BY_SIDE)

test-slow: $(READY)
	$(BIN)/python -m pytest -m slow $(SIDE_BY_SIDE)

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

# Whatever is installed has a hash in a lock, and nothing is built from source, which would fetch what to build it with.
# torch first: for the CPU alone if pip finds it so, else PyPI's, which on Linux asks for NVIDIA's libraries besides.
PIP := -m pip install --quiet --disable-pip-version-check
LOCKED := $(PIP) --require-hashes --no-deps --only-binary :all:
$(READY): requirements-cpu.lock requirements.lock requirements-cuda.lock pyproject.toml
	$(PYTHON) -m venv --clear $(VENV)
	@$(BIN)/python $(LOCKED) -r requirements-cpu.lock 2> /dev/null || echo "No torch for the CPU alone is found: PyPI's is taken."
	$(BIN)/python $(LOCKED) -r requirements.lock
	if $(BIN)/python -m pip show torch | grep -q nvidia; then $(BIN)/python $(LOCKED) -r requirements-cuda.lock; fi
	$(BIN)/python $(PIP) --no-deps --no-build-isolation --editable .
	touch $@

app-ready: $(APP_READY)
	@for name in chromium chromium-browser google-chrome; do command -v $$name > /dev/null && exit 0; done; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get > /dev/null; then \
	  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends chromium > /dev/null; \
	else echo "The app's tests need a browser: install chromium (Debian: apt-get install chromium)." >&2; exit 1; fi

$(APP_READY): $(READY) requirements-app-test.lock
	$(BIN)/python $(LOCKED) -r requirements-app-test.lock
	touch $@

$(RAY_READY): $(READY) requirements-ray-test.lock
	$(BIN)/python $(LOCKED) -r requirements-ray-test.lock
	touch $@

$(TOOLS_READY): requirements-tools.lock
	$(PYTHON) -m venv --clear $(TOOLS)
	$(TOOLS)/bin/python $(LOCKED) -r requirements-tools.lock
	touch $@

# Write the locks anew, for every system: what stands in one stays, what is taken out of it is chosen anew.
# requirements-cpu.lock is written by hand.
COMPILE := $(TOOLS)/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
  --annotation-style line --custom-compile-command "make lock"
lock: $(TOOLS_READY)
	$(COMPILE) pyproject.toml $(addprefix --extra ,report hub pe-av avcil onnx app) --group dev -o requirements.lock
	for group in app-test ray-test tools; do \
	  $(COMPILE) --group $$group -c requirements.lock -o requirements-$$group.lock || exit 1; done
	grep -o '^torch==[^ ]*' requirements.lock | $(COMPILE) --no-config -c requirements.lock - -o requirements-cuda.lock

	grep -o '^torch==[^ ]*' requirements.lock > $(TOOLS)/torch.txt
	$(TOOLS)/bin/uv pip compile --quiet --python-version 3.11 --python-platform x86_64-unknown-linux-gnu --only-binary :all: \
	  --resolution lowest-direct --no-annotate --custom-compile-command "make lock" -c $(TOOLS)/torch.txt pyproject.toml \
	  --group dev $(addprefix --extra ,report hub pe-av avcil onnx app) -o requirements-oldest.txt

# Known faults of locked packages. It fails where the service cannot be asked: an answer of nobody is not "none".
audit: $(TOOLS_READY)
	for lock in requirements.lock requirements-app-test.lock requirements-ray-test.lock requirements-tools.lock; do \
	  $(TOOLS)/bin/pip-audit --strict --no-deps --disable-pip -r $$lock || exit 1; done

# A bill of materials (CycloneDX), beside the wheel and the source.
sbom: $(READY)
	mkdir -p dist
	$(BIN)/python -m supply bill dist/harkback.cdx.json

# The table in docs/licences.md, from all environments that the locks make.
licences: $(APP_READY) $(RAY_READY) $(TOOLS_READY)
	$(BIN)/python -m supply licences $(wildcard $(VENV)/lib/*/site-packages $(TOOLS)/lib/*/site-packages)

# Wheel and source, the same bytes from the same commit; `python -m trials.release` tries that, and what is in them.
dist: $(READY) sbom
	SOURCE_DATE_EPOCH=$$(git log -1 --format=%ct) $(BIN)/python -m hatchling build

# The reference of what is public, from its docstrings, into site/.
docs: $(READY)
	$(BIN)/python -W ignore -m supply.reference site

# The default tests on the oldest versions that pyproject.toml admits; torch is the locked one (docs/dependencies.md).
# What an old library does that a newer one deprecates is no fault of ours.
OLDEST := .venv-oldest
test-oldest:
	$(PYTHON) -m venv --clear $(OLDEST)
	$(OLDEST)/bin/python $(PIP) --no-deps -r requirements-cpu.lock
	$(OLDEST)/bin/python $(PIP) --no-deps --only-binary :all: -r requirements-oldest.txt
	$(OLDEST)/bin/python $(PIP) --no-deps --no-build-isolation --editable .
	$(OLDEST)/bin/python -m pytest -W ignore::DeprecationWarning $(SIDE_BY_SIDE)

clean:
	rm -rf $(VENV) $(TOOLS) build dist .pytest_cache .mypy_cache .ruff_cache harkback-runs
