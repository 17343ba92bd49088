# `make` alone lists what can be done here. Each target that needs Python packages sets them up itself.

PY := .venv/bin/python

# A process for each core, for most of a test is waiting; one, as for a debugger: ARGS="-n0 --pdb".
TESTS := $(PY) -m pytest -n logical --maxprocesses 4 --dist worksteal

.DEFAULT_GOAL := help
.PHONY: help demo test check format lint types contracts wheel full faults mutants bench docs clean venv

help: ## list what one can do here
	@sed -n 's/^\([a-z]*\):[^#]*## \(.*\)/  make \1|\2/p' Makefile | while IFS='|' read -r target text; do printf '%-16s %s\n' "$$target" "$$text"; done

demo: venv ## a service with 4 agents does real work, is killed, comes back, loses a node (2 minutes)
	@.venv/bin/jobledger --version
	@$(PY) examples/demo.py

test: venv ## run the tests; one file or name: make test ARGS="tests/store -k chain"
	@$(TESTS) $(ARGS)

check: lint types contracts wheel test ## everything a merge needs: lint, types, contracts, wheel, tests

format: venv ## put the code into its usual form
	@$(PY) -m ruff format .
	@$(PY) -m ruff check --fix .

lint: venv ## say where the code is not in its usual form, or unsafe
	@$(PY) -m ruff format --check .
	@$(PY) -m ruff check .

types: venv ## check the types (mypy --strict)
	@$(PY) -m mypy

contracts: venv ## check who imports whom
	@PYTHONPATH=src:projections .venv/bin/lint-imports --no-logo

wheel: venv ## build the wheel, install it in an empty place, run it there
	@$(PY) scripts/wheel.py

full: venv ## run the tests at full size; figures go to docs/explanation/evidence.md
	@JOBLEDGER_FULL=1 $(TESTS) --timeout=3600 $(ARGS)

faults: venv ## run the tests that try a fault, at full size; what came out goes to docs/reference/faults.md
	@JOBLEDGER_FULL=1 $(TESTS) --timeout=3600 -m fault $(ARGS)

mutants: venv ## seed known bugs in a copy, show which test kills each; some: make mutants ARGS="name"
	@$(PY) tests/mutants/run.py $(ARGS)

bench: venv ## measure against the targets, each beside its baseline; some: make bench ARGS="3 4 --small"
	@PYTHONPATH=. $(PY) -m benchmarks $(ARGS)

docs: venv ## write again what in docs/ is made from the code: reference pages, outputs of commands
	@$(PY) -m ledger.testing.reference
	@$(PY) -m ledger.testing.outputs

clean: ## remove what these targets made, but .venv
	rm -rf build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find src projections tests -name __pycache__ -type d -prune -exec rm -rf {} +

venv:
	@PYTHON="$(PYTHON)" scripts/venv
