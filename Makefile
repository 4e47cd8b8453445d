# Every target does its own set-up in .venv; nothing outside the project is touched.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
DOCS   ?= inbox
ARGS   ?=
SEED   ?= 1
MINUTES ?= 10

.PHONY: up test test-fast test-interop lint format bench chaos lock clean help

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

# The stamp is the lock itself: a changed lock or project file installs again.
$(VENV)/.installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Upwell needs Python 3.11 or newer; this is " + sys.version.split()[0] + ". Say which with: make PYTHON=python3.12 up")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing into $(VENV) (once) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@$(BIN)/python -m compileall -q ops producers workers  # pip compiles what it installs; this is what it does not
	@touch $@

up: $(VENV)/.installed  ## start everything on one machine: make up [DOCS=folder] [ARGS="--port 9000"]
	@exec $(BIN)/upwell up "$(patsubst ~%,$(HOME)%,$(DOCS))" $(ARGS)

test: $(VENV)/.installed  ## every test
	@$(BIN)/python -m pytest $(ARGS)

test-fast: $(VENV)/.installed  ## what needs no running stack
	@$(BIN)/python -m pytest -m "not stack and not slow" $(ARGS)

# Other people's libraries live apart from ours: they must not be able to help us.
.venv-interop/.installed: tests/interop/requirements.txt
	@test -x .venv-interop/bin/python || $(PYTHON) -m venv .venv-interop
	@.venv-interop/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -r tests/interop/requirements.txt
	@touch $@

tests/interop/js/node_modules/.installed: tests/interop/js/package-lock.json
	@if command -v npm >/dev/null; then cd tests/interop/js && npm ci --silent --no-audit --no-fund --ignore-scripts && touch node_modules/.installed; fi

test-interop: $(VENV)/.installed .venv-interop/.installed tests/interop/js/node_modules/.installed  ## other people's Qdrant stores read what we write
	@$(BIN)/python -m tests.interop

lint: $(VENV)/.installed  ## format check, lint, types
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy

format: $(VENV)/.installed  ## rewrite in house format
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

bench: $(VENV)/.installed  ## measure (see tests/bench/README.md)
	@$(BIN)/python -m tests.bench $(ARGS)

chaos: $(VENV)/.installed  ## kill and break everything for a while, then check: make chaos [SEED=1] [MINUTES=10]
	@$(BIN)/python -m tests.chaos --seed $(SEED) --minutes $(MINUTES) $(ARGS)

bench-peers:  ## make the environment that peers are measured in (tests/bench/peers)
	@test -x .venv-bench/bin/python || $(PYTHON) -m venv .venv-bench
	@.venv-bench/bin/python -m pip install --quiet --disable-pip-version-check -r tests/bench/peers/requirements.txt
	@test -x .venv-bench-unstructured/bin/python || $(PYTHON) -m venv .venv-bench-unstructured
	@.venv-bench-unstructured/bin/python -m pip install --quiet --disable-pip-version-check -r tests/bench/peers/requirements-unstructured.txt

lock: $(VENV)/.installed  ## resolve pyproject.toml into requirements.lock and requirements-run.lock (the image) again
	@$(BIN)/python -m pip install --quiet uv
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --group dev --extra-index-url "" pyproject.toml -o requirements.lock
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --extra postgres --constraints requirements.lock --extra-index-url "" pyproject.toml -o requirements-run.lock

clean:  ## remove the virtual environment and the data of the default folder's index
	rm -rf $(VENV) .venv-bench .venv-bench-unstructured .upwell
