PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# `sam build` wants the runtime's own interpreter on the PATH, and no shim of a version manager.
PYTHON313 := $(shell pyenv prefix 3.13.0 2>/dev/null || pyenv prefix 3.13 2>/dev/null)
SAM := $(if $(PYTHON313),PATH="$(PYTHON313)/bin:$$PATH") $(BIN)/sam

.DEFAULT_GOAL := help
.PHONY: help setup run test check build bench bench-setup format clean

help: ## Show the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-11s %s\n", $$1, $$2}'

setup: $(STAMP) ## Make .venv with the parcelq command in it

$(STAMP): pyproject.toml layers/parcelq/python/requirements.txt cli/requirements.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Parcelq needs Python 3.11 or newer; this is " + sys.version)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

run: setup ## Run the whole pipeline on this machine over examples/molecules.smi
	$(BIN)/parcelq local examples/molecules.smi --step functions/processor/steps/step/step.py --output results

test: setup ## Run all tests
	$(BIN)/pytest -n auto

check: setup ## Lint, type-check, and check the template and who imports whom
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/cfn-lint template.yaml
	$(SAM) validate --lint

build: setup ## Build what is deployed, into .aws-sam
	$(SAM) build

bench: setup ## Measure speed beside what else people use; CASES="cut publish" for some, QUICK=1 for a trial
	$(BIN)/python -m benchmarks $(if $(QUICK),--quick) $(CASES)

bench-setup: setup ## Install what the benchmarks compare with
	$(PYTHON) -m venv benchmarks/.venv
	benchmarks/.venv/bin/python -m pip install --quiet --disable-pip-version-check -r benchmarks/requirements.txt
	@missing=; for one in parallel redis-server; do command -v $$one >/dev/null || missing="$$missing $$one"; done; \
	if [ -z "$$missing" ]; then echo "All is there."; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		apt-get update --quiet && apt-get install --yes --no-install-recommends $$missing; \
	else echo "Missing, by the names of Debian's packages:$$missing"; fi

format: setup ## Format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean: ## Remove what the other targets made
	rm -rf $(VENV) benchmarks/.venv .aws-sam build results .pytest_cache .mypy_cache .ruff_cache
