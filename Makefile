# Everything a newcomer needs: `make demo`, then `make test`. Python 3.11 or newer is the only thing to install before.
.DEFAULT_GOAL := help
.PHONY: help venv demo test lint types imports pytest bench chaos lock settings-docs clean

VENV := .venv
PY := $(VENV)/bin/python
# Two processes: more do not pay on the two cores that the test time is measured on.
TEST_PROCESSES ?= 2
COMPILE := $(VENV)/bin/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --python-version 3.11
PYTEST := $(PY) -m pytest --durations=5 --durations-min=5

help: ## this list
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 22

venv: ## create .venv from the lock files (done by itself where needed; instant when nothing changed)
	@sh deploy/bootstrap

demo: venv ## a month of bookings through the whole pipeline; KEEP=1 leaves everything running
	@$(PY) -m cli demo $(if $(filter-out 0 no false,$(KEEP)),--keep)

test: venv ## format, lint, types, import rules and all tests (chaos apart); one failure does not hide the others
	@$(MAKE) --no-print-directory --keep-going lint types imports pytest

lint: venv
	@echo "== ruff"
	@$(PY) -m ruff format --check .
	@$(PY) -m ruff check .

types: venv
	@echo "== mypy --strict"
	@$(PY) -m mypy --strict .

imports: venv
	@echo "== import rules"
	@$(VENV)/bin/lint-imports

pytest: venv
	@echo "== pytest"
	@$(PYTEST) -m "not chaos" -n $(TEST_PROCESSES) --dist loadfile

bench: venv ## every figure of speed beside its target and its peers, under 10 minutes; ARGS=--quick for a look
	@sh deploy/bootstrap-bench
	@$$([ -f .venv-bench/.bootstrapped ] && echo .venv-bench/bin/python || echo $(PY)) -m bench $(ARGS)

chaos: venv ## kill -9 at every boundary; the invariants must hold afterwards
	@$(PYTEST) -m chaos

lock: venv ## resolve the dependencies again and rewrite the lock files (needs the network)
	@$(COMPILE) --extra dev pyproject.toml -o requirements.lock
	@$(COMPILE) --extra bench -c requirements.lock --custom-compile-command "make lock" pyproject.toml \
		-o requirements-bench.lock
	@sed -n 's/^\(uv==[^ ]*\).*/\1/p' requirements.lock | $(COMPILE) --custom-compile-command "make lock" - \
		-o requirements-bootstrap.lock

settings-docs: venv ## rewrite .env.example and the table in docs/configuration.md from settings.py
	@$(PY) -m deploy.settings_docs

clean: ## remove what can be built again; .venv and the state of a local run (.billing) stay
	@rm -rf build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache ./*.egg-info
	@find . -path './.venv*' -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +
