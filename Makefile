PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Stamps hold the moment an environment was last brought in line with pyproject.toml.
RUN_STAMP := $(VENV)/.installed-all
DEV_STAMP := $(VENV)/.installed-dev

# Length of soak-load.
MINUTES := 30

# The server's wheel asks for numpy 1, which has no build for Python 3.13; only its binaries are used, so it goes in alone.
SERVER_ALONE := $(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 13))' \
	&& $(BIN)/pip install --quiet --no-deps nvidia-pytriton==0.7.0 || true

.PHONY: demo test check lint mypy pyright unit api format train test-slow test-peer test-torch test-gpu soak-load fuzz agreement help

help: ## Show the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  \1\t/' | expand -t 16

$(RUN_STAMP): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[generator,load,report,server]'
	@$(SERVER_ALONE)
	@touch $@

$(DEV_STAMP): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[all,dev]'
	@$(SERVER_ALONE)
	@touch $@ $(RUN_STAMP)

demo: $(RUN_STAMP) ## From a trained model to a load-test report, on this machine
	$(BIN)/tritonforge demo

check: $(DEV_STAMP) ## Lint and types, two at a time
	@$(MAKE) --no-print-directory --jobs 2 --output-sync=target pyright mypy lint

lint: $(DEV_STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

mypy: $(DEV_STAMP)
	$(BIN)/mypy

pyright: $(DEV_STAMP)
	$(BIN)/pyright --pythonpath $(BIN)/python

test: check ## Everything that CI runs
	$(BIN)/pytest -m 'not slow and not peer' -n 3 --dist loadfile --no-loadscope-reorder

unit: $(DEV_STAMP) ## Tests that start no server and no browser
	$(BIN)/pytest -m 'not slow and not peer and not triton and not browser'

test-peer: $(DEV_STAMP) ## Tests against released packages of others, which are downloaded
	$(BIN)/pytest -m peer

test-torch: $(DEV_STAMP) ## Tests of PyTorch as a source, with PyTorch installed
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[torch]'
	$(BIN)/pytest tests/generator/source tests/generator/bench/test_pytorch.py

test-gpu: ## Tests with TensorRT on a GPU, in the Python that has them
	$(PYTHON) -m pytest -m gpu tests/gpu

test-slow: $(DEV_STAMP) ## Tests that take minutes or gigabytes
	$(BIN)/pytest -m slow

fuzz: $(DEV_STAMP) ## 100,000 mutated configs and 1,000 mutated ONNX files against the linter
	PYTHONPATH=tests $(BIN)/python -m generator.lint.fuzz 100000 1000

agreement: $(DEV_STAMP) ## The linter against the real server, over a thousand small repositories
	$(BIN)/pytest tests/agreement -m slow -s

soak-load: $(RUN_STAMP) ## Half an hour of load on a server of its own, for leaks: MINUTES=2 for less
	$(BIN)/tritonforge load run load_tests/campaigns/soak.yaml --serve model_repository \
		--set phases.soak.for=$(MINUTES)m --out build/soak

api: $(DEV_STAMP) ## A page about every public name of the client, in build/api
	$(BIN)/pdoc --docformat google --output-directory build/api tritonforge_client

format: $(DEV_STAMP) ## Format and mend what is safe to mend
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

train: $(DEV_STAMP) ## Train the demo's model again
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[torch]'
	$(BIN)/python -m tritonforge_generator.demo.train
