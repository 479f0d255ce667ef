# The whole developer manual: every target says what it does. `make` alone lists them.
SHELL := /bin/bash
.DEFAULT_GOAL := help
ARGS ?=
SEEDS ?= 20
DATA ?= ../shared/data
PYTHON ?= python3
BIN := .venv/bin
STARTED := $(shell date +%s)
# Two processes with servers of their own, a third without for the gaps (tests/conftest.py); ARGS="-n 0" for one alone.
BESIDE := -n 3 --dist loadscope --no-loadscope-reorder
COMPILE := $(BIN)/uv pip compile -q --universal --python-version 3.11 --upgrade --generate-hashes \
	--no-emit-index-url --no-emit-find-links --no-header

.PHONY: help install demo test test-all test-keycloak lint types check contract seeds access schemas faults sim backlog audit-cost kernels replay evaluate screenshots docs sbom lock up down clean

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

install: .venv/installed ## Make .venv with .venv/bin/keepwell, everything pinned by hash

.venv/installed: pyproject.toml requirements/lock.txt requirements/bootstrap.txt
	@deploy/install $(PYTHON)
	@touch $@

demo: install ## Install, start everything, replay real and synthetic people, show alerts. ARGS="--once --json out.json"
	@KEEPWELL_INSTALL_S=$$(( $$(date +%s) - $(STARTED) )) $(BIN)/keepwell demo $(ARGS)

test: install ## Every test that fits in minutes, against real Kafka, TimescaleDB, mosquitto and a browser
	@$(BIN)/pytest $(BESIDE) -m "not slow" $(ARGS)

test-all: install ## All tests, the slow ones too
	@$(BIN)/pytest $(BESIDE) $(ARGS)

lint: install ## Style, import rules and formatting
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/lint-imports

types: install ## Types, strict, tests included
	@$(BIN)/mypy

check: test lint types ## What CI runs

contract: install ## What every consumer keeps, with 1 and with 4 processors. ARGS="-k storm"
	@$(BIN)/pytest tests/integration/test_consumers.py $(ARGS)

test-keycloak: install ## Every way to sign in, against a real Keycloak too: some minutes, downloads 177 MB once
	@KEEPWELL_KEYCLOAK=1 $(BIN)/pytest tests/browser/test_ways_in.py $(ARGS)

seeds: install ## Run the demo on SEEDS new seeds and judge detection: found, missed, false alarms, with intervals
	@$(BIN)/python -m evaluation.seeds --count $(SEEDS) $(ARGS)

access: install ## Every address as every role, own team to anonymous, and the same in SQL, against the table of permissions
	@$(BIN)/pytest -q tests/access $(ARGS)

schemas: install ## Generated requests to every address as every role, CASES of each: no fault, no breach of the schema
	@KEEPWELL_SCHEMA_CASES=$(or $(CASES),50) $(BIN)/pytest -q tests/access/test_schemas.py --timeout=3600 $(ARGS)

faults: install ## Break the whole running system, 27 rows, and write docs/reliability.md. SEEDS=5 ARGS="--processors 4", ARGS="--list"
	@$(BIN)/python -m tests.faults --seeds $(if $(filter file,$(origin SEEDS)),1,$(SEEDS)) $(ARGS)

sim: install ## The whole stream in one thread, faults at every step, every invariant judged. SEEDS=10000 ARGS="--jobs 2", ARGS=--bugs
	@$(BIN)/python -m tests.sim --seeds $(if $(filter file,$(origin SEEDS)),500,$(SEEDS)) $(ARGS)

backlog: install ## Measure live latency beside 50,000 frames of history, on servers of its own. ARGS="--rounds 3 --json b.json"
	@$(BIN)/python -m benchmarks.backlog $(ARGS)

audit-cost: install ## Measure what the audit costs a read, on servers of its own. ARGS="--rounds 20 --json a.json"
	@$(BIN)/python -m benchmarks.audit $(ARGS)

kernels: install build/rivals/installed ## Measure what detection costs, beside river and stumpy, and write it into docs/detection.md. ARGS="--rounds 20"
	@$(BIN)/python -m benchmarks.kernels --json build/kernels.json $(ARGS)

build/rivals/installed: requirements/rivals.txt | .venv/installed
	@$(BIN)/uv venv -q --clear --python $(BIN)/python build/rivals
	@$(BIN)/uv pip sync -q --python build/rivals/bin/python --require-hashes requirements/rivals.txt
	@touch $@

replay: install ## Replay the shared real recordings. ARGS="--json r.json"
	@$(BIN)/keepwell replay ../shared/data/wearable_hr --speed max $(ARGS)

evaluate: install ## Judge detection on the shared real data and write docs/detection.md's tables, sentences and pictures: some 15 minutes on two cores. DATA=folder
	@rm -rf build/evaluate && mkdir -p build/evaluate
	@$(MAKE) --no-print-directory -j 2 $(EVALUATED:%=build/evaluate/%.json)
	@$(BIN)/python -m evaluation.page build/evaluate && $(BIN)/python -m evaluation.plots build/evaluate

# The documents of `make evaluate`, the longest first: two are made at a time.
EVALUATED := injected joint exchanged hearts onset calibration shape swaps variability shifts onset_raw subgroups
HOW_injected := injected --data $(DATA)/wearable_hr
HOW_joint := joint
HOW_exchanged := exchanged --data $(DATA)/wearable_hr
HOW_hearts := hearts --data $(DATA)/wearable_hr
HOW_onset := onset --nested-cv --data $(DATA)/onset_daily
HOW_calibration := calibration --data $(DATA)/onset_daily
HOW_onset_raw := onset --data $(DATA)/wearable_hr
HOW_shape := shape --data $(DATA)/wearable_hr
HOW_swaps := swaps
HOW_shifts := shifts --data $(DATA)/onset_daily
HOW_variability := variability
HOW_subgroups := subgroups --data $(DATA)/onset_daily

build/evaluate/%.json:
	@set -o pipefail; $(BIN)/keepwell evaluate $(HOW_$*) --json $@ 2>&1 | cat  # no bar: two would share a line

screenshots: install ## Make the pictures of the README anew with the browser test
	@KEEPWELL_SCREENSHOTS=docs/images $(BIN)/pytest -q tests/browser $(ARGS)

docs: install ## Write the tables of docs/operations.md and docs/access.md and the schema of rules files anew from what they describe
	@$(BIN)/python -m deploy.operations && $(BIN)/python -m deploy.access_page && $(BIN)/keepwell rules schema > docs/rules.schema.json

sbom: install ## Write build/sbom.json: every Python package installed, its version, licence and what needs it (CycloneDX)
	@mkdir -p build && $(BIN)/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible -o build/sbom.json $(BIN)/python

lock: install ## Pin pyproject.toml's dependencies anew
	@$(COMPILE) pyproject.toml --extra server --group dev -o requirements/lock.txt
	@$(COMPILE) --group pyproject.toml:rivals -o requirements/rivals.txt

up: install ## Start the local stack
	@$(BIN)/keepwell up $(ARGS)

down: install ## Stop the local stack
	@$(BIN)/keepwell down $(ARGS)

clean: ## Remove what was built; keeps the data in .keepwell
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis *.egg-info
