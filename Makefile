# Every target does its own set-up: python3 (3.11 or newer, with venv) and make are all that is needed.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help setup demo deep examples test check audit bench chaos soak lock clean

help: ## what can be made
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1|/' | column -t -s '|'

setup: $(VENV)/.stamp ## the environment in .venv, from the lock

$(VENV)/.stamp: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "recollect needs python3 3.11 or newer; found: $$($(PYTHON) --version)"; exit 2; }
	@$(PYTHON) -c 'import venv, ensurepip' || { echo "this python3 has no venv module (on Debian: apt-get install python3-venv)"; exit 2; }
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

demo: $(VENV)/.stamp ## the whole system on real texts, twice: the second pass asks the model nothing
	@$(BIN)/python -m examples.demo

deep: .deep/venv/.stamp ## the same with a real deep model (about 100 MB to install), over HTTP and in the worker
	@.deep/venv/bin/python -m examples.deep.demo

# Beside the model all that $(VENV) has: as a Python target it runs inside a worker.
.deep/venv/.stamp: requirements.lock pyproject.toml examples/deep/requirements.lock
	$(PYTHON) -m venv --clear .deep/venv
	.deep/venv/bin/python -m pip install --quiet --require-hashes -r requirements.lock -r examples/deep/requirements.lock
	.deep/venv/bin/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

# The other examples, each in an environment of its own: recollect as it is installed, and what the example needs.
.airflow/venv/.stamp .frames/venv/.stamp: .%/venv/.stamp: deploy/runtime.lock pyproject.toml examples/%/requirements.lock
	$(PYTHON) -m venv --clear .$*/venv
	.$*/venv/bin/python -m pip install --quiet --require-hashes -r deploy/runtime.lock -r examples/$*/requirements.lock
	.$*/venv/bin/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

examples/node/node_modules/.stamp: examples/node/package.json examples/node/package-lock.json examples/node/.npmrc
	cd examples/node && npm ci --silent --no-audit --no-fund
	@touch $@

examples: $(VENV)/.stamp .airflow/venv/.stamp .frames/venv/.stamp examples/node/node_modules/.stamp ## run the examples for pipelines: Airflow, Polars, pandas, Node (node and npm must be there)
	@$(BIN)/python -m pytest tests/system/test_airflow.py tests/system/test_frames.py tests/system/test_node.py

test: $(VENV)/.stamp ## all tests, two files at a time; those for RabbitMQ need its server on the machine
	@$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

check: $(VENV)/.stamp .tools/venv/.stamp ## style, types, security and documents
	$(BIN)/ruff check --no-cache .
	$(BIN)/ruff format --no-cache --check .
	$(BIN)/mypy
	$(BIN)/bandit --quiet --recursive --severity-level medium wire broker producer worker
	.tools/venv/bin/python -m deploy.check
	$(BIN)/python -m pytest --quiet tests/ops/test_code_rules.py

audit: .audit/venv/.stamp ## known holes in what is pinned, by a public database (needs the network)
	@status=0; for place in . bench deploy examples/deep examples/airflow examples/frames; do echo "$$place/requirements.lock"; \
	  .audit/venv/bin/pip-audit --strict --require-hashes --disable-pip --progress-spinner off \
	    --requirement $$place/requirements.lock || status=1; done; exit $$status

# Not pinned: an old scanner would miss what is new. `--strict`: what could not be asked about is a failure.
.audit/venv/.stamp:
	$(PYTHON) -m venv --clear .audit/venv
	.audit/venv/bin/python -m pip install --quiet pip-audit
	@touch $@

# What checks deploy/ and drives a browser: none of it is needed to run recollect.
.tools/venv/.stamp: deploy/requirements.lock
	$(PYTHON) -m venv --clear .tools/venv
	.tools/venv/bin/python -m pip install --quiet --require-hashes -r deploy/requirements.lock
	@touch $@

chaos: $(VENV)/.stamp ## a minute of seeded faults on each broker: nothing may be lost (SEED=7 replays)
	@$(BIN)/python -m tests.chaos --seconds 60 $(if $(SEED),--seed $(SEED))

soak: $(VENV)/.stamp ## a million requests on each broker: nothing may grow; then 20 minutes of strange messages (long)
	@$(BIN)/python -m tests.chaos --soak $(if $(REQUESTS),--requests $(REQUESTS))
	@$(BIN)/python -m tests.chaos --fuzz --seconds 600

bench: $(VENV)/.stamp .bench/venv/.stamp .deep/venv/.stamp ## all benchmarks, peers too, into docs/benchmarks.md (QUICK=1: 5 minutes)
	@$(BIN)/python -m bench $(if $(QUICK),--quick)

.bench/venv/.stamp: bench/requirements.lock
	$(PYTHON) -m venv --clear .bench/venv
	.bench/venv/bin/python -m pip install --quiet --require-hashes -r bench/requirements.lock
	@touch $@

PIN := uv pip compile --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --upgrade --quiet
lock: ## pin what is installed (needs uv)
	$(PIN) --all-extras pyproject.toml -o requirements.lock
	$(PIN) bench/requirements.in -o bench/requirements.lock
	$(PIN) deploy/requirements.in -o deploy/requirements.lock
	$(PIN) -c requirements.lock pyproject.toml -o deploy/runtime.lock
	$(PIN) -c requirements.lock examples/deep/requirements.in -o examples/deep/requirements.lock
	$(PIN) -c deploy/runtime.lock examples/airflow/requirements.in -o examples/airflow/requirements.lock
	$(PIN) -c deploy/runtime.lock examples/frames/requirements.in -o examples/frames/requirements.lock

clean: ## everything made here
	rm -rf $(VENV) .airflow .audit .bench .deep .frames examples/node/node_modules .tools .recollect build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
