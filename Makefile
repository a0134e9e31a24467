PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
BUILD := .aws-sam/build
# The environment of samconfig.toml that is built.
CONFIG_ENV ?= default
SCANNER := .venv-scan
# Without these it asks the network for news of itself and of its rules.
CHECKOV := CKV_SKIP_PACKAGE_UPDATE_CHECK=true $(SCANNER)/bin/checkov --framework cloudformation --skip-download --quiet --compact
# Where vulnerabilities of packages are looked up: https://google.github.io/osv.dev/api/
OSV := https://api.osv.dev/v1/query
VULNERABLE := {"package": {"name": "pip", "ecosystem": "PyPI"}, "version": "1.0"}
# `sam build` wants the runtime's own interpreter on the PATH, and no shim of a version manager.
PYTHON313 := $(shell pyenv prefix 3.13.0 2>/dev/null || pyenv prefix 3.13 2>/dev/null)
# The interpreters of a version manager, for the tests on every version.
VERSIONS_PATH := PATH="$(shell for one in 3.11 3.12 3.13 3.14; do pyenv prefix $$(pyenv versions --bare 2>/dev/null | grep "^$$one" | tail -1) 2>/dev/null && echo; done | sed 's|$$|/bin|' | tr '\n' ':')$$PATH"
# It installs in seconds what takes pip minutes. Where it cannot, as with a registry that only pip is told of, pip does.
UV := $(shell grep '^uv==' requirements.lock)
# Tests start some thousand processes, which take twice as long where Python may not keep what it compiled.
unexport PYTHONDONTWRITEBYTECODE
# Two processes more than there are processors, since end-to-end tests wait much. The tests of a file share what they start.
PYTEST = $(BIN)/pytest --numprocesses $$($(BIN)/python -c 'import os; print(2 + os.cpu_count())') --dist loadfile --no-loadscope-reorder
# The Python of the functions: the parameter Runtime.
RUNTIME = $(shell $(BIN)/python scan/building.py runtime $(CONFIG_ENV))
RUNTIME_PATH = PATH="$(shell pyenv prefix $$(pyenv versions --bare 2>/dev/null | grep "^$(RUNTIME:python%=%)" | tail -1) 2>/dev/null)/bin:$$PATH"
PATH313 := $(if $(PYTHON313),PATH="$(PYTHON313)/bin:$$PATH")
SAM := $(PATH313) $(BIN)/sam
# Versions stay as they are while they fit the ranges; LOCK=--upgrade takes the newest.
COMPILE = $(BIN)/uv pip compile --quiet --no-annotate --custom-compile-command 'make lock' $(LOCK)
# What the layer carries beside the library. Lambda's runtime brings boto3.
LAYER := aws-lambda-powertools backports.zstd PyYAML

# An environment in the folder $(1) with the packages $(2).
define environment
	$(PYTHON) -m venv $(1)
	$(1)/bin/python -m pip install --quiet --disable-pip-version-check $(UV)
	$(1)/bin/uv pip install --quiet --python $(1)/bin/python $(2) || \
	$(1)/bin/python -m pip install --quiet --disable-pip-version-check $(2)
endef

.DEFAULT_GOAL := help
.PHONY: help setup docs prose lock wheel release versions run test browser pictures e2e check scan audit build bench bench-setup thorough guards format clean

help: ## Show the targets
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-11s %s\n", $$1, $$2}'

setup: $(STAMP) ## Make .venv with the parcelq command in it

$(STAMP): pyproject.toml requirements.lock
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Parcelq needs Python 3.11 or newer; this is " + sys.version)'
	$(call environment,$(VENV),--requirement requirements.lock --editable '.[dev]')
	@touch $@

docs: setup ## Check links, and build the documentation into build/site
	$(BIN)/python scan/links.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

prose: setup ## Look for phrases that we do not write
	$(BIN)/python scan/prose.py

lock: setup ## Write the exact versions anew: of everything, and of the layer
	$(COMPILE) --universal --all-extras --output-file requirements.lock pyproject.toml
	printf '%s\n' $(LAYER) | $(COMPILE) --constraint requirements.lock --python-version 3.13 --python-platform linux \
	  --output-file layers/parcelq/python/requirements.txt -

wheel: setup ## Build the wheel into dist
	rm -rf build/lib build/bdist.*
	$(BIN)/uv build --quiet --wheel --out-dir dist

release: setup ## Build the wheel and the source archive into dist, check both, and try the wheel in an empty environment
	rm -rf dist build/lib build/bdist.*
	$(BIN)/uv build --quiet --out-dir dist
	$(BIN)/twine check --strict dist/*
	$(BIN)/python scan/release.py dist
	$(BIN)/pytest tests/e2e/test_wheel.py

versions: setup ## Test on every supported Python that is installed
	$(VERSIONS_PATH) $(BIN)/nox

run: setup ## Run the whole pipeline on this machine over examples/molecules.smi
	$(BIN)/parcelq emulate examples/molecules.smi --step functions/processor/steps/step/step.py --output results

test: setup ## Run all tests
	$(PYTEST)

browser: setup ## Install a browser where that is possible, and run the tests of pages in it
	@command -v chromium chromium-browser google-chrome >/dev/null || \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		apt-get update --quiet && apt-get install --yes --no-install-recommends chromium fonts-dejavu-core; \
	else echo "Missing, by the name of Debian's package: chromium" >&2; exit 1; fi
	$(BIN)/uv pip install --quiet --python $(BIN)/python --requirement tests/browser/requirements.txt || \
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement tests/browser/requirements.txt
	$(BIN)/pytest tests/browser

pictures: browser ## Take the pictures in docs/pictures, from real runs
	$(BIN)/python scan/pictures.py

e2e: setup ## Run only the end-to-end tests
	$(PYTEST) tests/e2e

check: setup scan audit ## Lint, type-check, look for weaknesses, and check the template and who imports whom
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	for function in functions/*/app.py; do $(BIN)/mypy $$function || exit; done
	$(BIN)/lint-imports
	$(BIN)/cfn-lint template.yaml
	$(SAM) validate --lint
	$(MAKE) prose docs

scan: setup $(SCANNER)/.installed ## Look for weaknesses in the code and in the template, with and without a key of one's own, a role for steps, and secrets
	$(BIN)/bandit --quiet --configfile pyproject.toml --recursive layers functions cli emulator
	@mkdir -p build/scan
	$(BIN)/python scan/transformed.py KmsKeyArn=arn:aws:kms:us-east-1:123456789012:key/0a1b2c3d \
	  StepRole=arn:aws:iam::123456789012:role/steps \
	  Secrets=arn:aws:ssm:us-east-1:123456789012:parameter/score/KEY > build/scan/key.json
	$(CHECKOV) --file build/scan/key.json
	$(BIN)/python scan/transformed.py > build/scan/no-key.json
	@# Without one, keys of AWS encrypt topics (SSE-SQS, which CKV_AWS_27 does not know) and logs (CKV_AWS_158).
	$(CHECKOV) --file build/scan/no-key.json --skip-check CKV_AWS_27,CKV_AWS_158

$(SCANNER)/.installed: scan/requirements.txt
	$(call environment,$(SCANNER),--requirement $<)
	@touch $@

audit: setup ## Look up known vulnerabilities of all that is installed, if a service for that can be reached
	@mkdir -p build/scan
	@$(BIN)/python -m pip freeze --exclude-editable > build/scan/installed.txt
	@if $(BIN)/python -c 'import requests; requests.post("$(OSV)", json=$(VULNERABLE), timeout=15).json()["vulns"]' 2>&-; \
	then $(BIN)/pip-audit --requirement build/scan/installed.txt --no-deps --disable-pip --progress-spinner off \
	  --vulnerability-service osv --osv-url $(OSV); \
	else echo 'not audited: no vulnerability service reachable'; fi

build: setup ## Build what is deployed, into .aws-sam
	@$(RUNTIME_PATH) $(RUNTIME) -c '' 2>/dev/null || { echo "Missing: $(RUNTIME) on the PATH, the functions' runtime" >&2; exit 1; }
	@$(BIN)/python scan/building.py steps $(CONFIG_ENV)
	$(RUNTIME_PATH) $(BIN)/sam build --config-env $(CONFIG_ENV) --build-dir $(BUILD)
	@# A function cannot keep what it compiles, as it may not write where its code lies, and would do it at every start.
	$(RUNTIME_PATH) $(RUNTIME) -m compileall -q -x /steps/ --invalidation-mode unchecked-hash -s $(BUILD) $(BUILD)
	@$(BIN)/python scan/building.py sizes $(BUILD)

bench: setup ## Measure speed beside what else people use; CASES="cut publish" for some, QUICK=1 for a trial
	$(BIN)/python -m benchmarks $(if $(QUICK),--quick) $(CASES)

bench-setup: setup ## Install what the benchmarks compare with, and build what cold starts are measured on
	$(call environment,benchmarks/.venv,--requirement benchmarks/requirements.txt)
	@missing=; for one in parallel redis-server; do command -v $$one >/dev/null || missing="$$missing $$one"; done; \
	if [ -z "$$missing" ]; then echo "All is there."; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		apt-get update --quiet && apt-get install --yes --no-install-recommends $$missing; \
	else echo "Missing, by the names of Debian's packages:$$missing"; fi
	@if $(PATH313) python3.13 -c '' 2>/dev/null; then $(MAKE) build; \
	else echo "Missing, for cold starts: Python 3.13, the functions' runtime; then make build"; fi

thorough: setup ## Run all tests, with more examples, and with each fault of the crash tests at every call to AWS
	PARCELQ_THOROUGH=1 $(PYTEST)

guards: setup ## Break the guards in the code one by one, and see that tests notice
	$(BIN)/python tests/crash/mutants.py

format: setup ## Format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean: ## Remove what the other targets made
	rm -rf $(VENV) $(SCANNER) benchmarks/.venv .aws-sam build dist results .pytest_cache .mypy_cache .ruff_cache
