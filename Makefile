# The venv's Python is the first that .ci/find-python meets, unless PYTHON names one.
PYTHON ?=
VENV ?= .venv
PYTHON312 ?=
VENV312 ?= .venv-py312
# The notebooks' own, of Colab's Python where there is one.
PYTHON_COLABS ?=
VENV_COLABS ?= .venv-colabs
# `--save dgkip` executes that notebook in its full mode and saves it with its outputs.
COLABS_ARGS ?=
PYTEST_ARGS ?=
# Test processes; one that has nothing left takes tests from another.
JOBS ?= 2

RUN := $(VENV)/bin/python
PYTEST := -m pytest --jaxtyping-packages=ddjax,tests.typechecker \
	--numprocesses=$(JOBS) --dist=worksteal

.DEFAULT_GOAL := help
.PHONY: help demo test test-py312 test-tfds test-slow lint format check-import-time \
	colabs docs tables benchmarks lock clean

help: ## Lists the targets.
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-18s %s\n", $$1, $$2}' \
	$(MAKEFILE_LIST)

demo: ## Distils the embedded digits and says where the report is.
	@.ci/install $(VENV) base "$(PYTHON)"
	@.ci/demo $(RUN)

test: ## All default tests.
	@.ci/install $(VENV) test "$(PYTHON)"
	$(RUN) $(PYTEST) $(PYTEST_ARGS)

# Every method with its evaluation and its files; kernels by their examples, and the one
# whose derivatives are its own; the loop; a command that is killed.
PY312 := tests/conformance/test_methods.py tests/kernels/test_doctests.py \
	tests/kernels/test_ridge.py tests/runtime tests/test_end_to_end.py

test-py312: ## On Python 3.12 with the newest jax: kernels, methods, runs, end to end.
	@.ci/install $(VENV312) test \
	"$$(test -n "$(PYTHON312)" && echo "$(PYTHON312)" || .ci/find-python 3.12)"
	$(VENV312)/bin/python $(PYTEST) $(PY312) $(PYTEST_ARGS)

test-tfds: ## Installs TensorFlow Datasets (some 600 MB) and runs its tests.
	@.ci/install $(VENV) tfds "$(PYTHON)"
	$(RUN) $(PYTEST) -m tfds $(PYTEST_ARGS)

test-slow: ## The tests that take longer.
	@.ci/install $(VENV) test "$(PYTHON)"
	$(RUN) $(PYTEST) -m slow $(PYTEST_ARGS)

lint: ## ruff check, ruff format --check, pyright.
	@.ci/install $(VENV) test "$(PYTHON)"
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/pyright --pythonpath $(RUN)

format: ## Formats the code and mends what ruff can mend.
	@.ci/install $(VENV) test "$(PYTHON)"
	$(VENV)/bin/ruff check --fix
	$(VENV)/bin/ruff format

check-import-time: ## ddjax.kernels imports in under twice the time of jax.
	@.ci/install $(VENV) test "$(PYTHON)"
	$(RUN) .ci/import_time.py ddjax.kernels --times=2

colabs: ## Executes the notebooks in their smoke mode, on Colab's Python if there is one.
	@.ci/install $(VENV_COLABS) notebooks \
	"$$(test -n "$(PYTHON_COLABS)" && echo "$(PYTHON_COLABS)" || \
	.ci/find-python "3.13 3.12 3.14 3.11")"
	$(VENV_COLABS)/bin/python .ci/colabs.py $(COLABS_ARGS)

docs: ## Builds the site in site/; fails on a broken link or anchor.
	@.ci/install $(VENV) docs "$(PYTHON)"
	NO_MKDOCS_2_WARNING=1 $(RUN) -m mkdocs build --strict --quiet

tables: ## Writes the tables of README.md and docs/ from experiments/results/.
	@.ci/install $(VENV) base "$(PYTHON)"
	$(RUN) -m experiments.fill_tables

benchmarks: ## Measures this machine; records under experiments/results/benchmarks/.
	@.ci/install $(VENV) test "$(PYTHON)"
	$(RUN) -m experiments.benchmarks.ridge --again
	$(RUN) -m experiments.benchmarks.gram --again
	$(RUN) -m experiments.benchmarks.unrolled --again

lock: ## Rewrites the locked versions for PYTHON=/path/to/python3.1x.
	.ci/lock $(PYTHON)

clean: ## Removes venvs and caches; keeps runs/ and local_data/.
	rm -rf .venv .venv-py312 .venv-colabs .pytest_cache .ruff_cache .hypothesis build dist site
	rm -rf ddjax.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
