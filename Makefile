# What a contributor can do. `make help` lists it.
# The first of these that is a Python we run on.
PYTHON ?= $(shell for python in python3 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 13))' 2>/dev/null \
	&& echo $$python && break; done)
BIN := .venv/bin
SETUP := .venv/.set-up

.DEFAULT_GOAL := help
HELIOGRAPH_FLINK ?= .flink
HELIOGRAPH_PRISM ?= .prism/prism
HELIOGRAPH_AIRFLOW ?= .airflow
.PHONY: help setup demo test torture flink-test prism-test airflow-test lint format docs bench clean

help: ## list these targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST)

setup: $(SETUP) ## make the virtual environment .venv and install everything into it

$(SETUP): setup.py pyproject.toml
	@test -n "$(PYTHON)" || { echo "Python 3.11 or 3.12 is needed: make PYTHON=/path/to/python3.12"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	PYTHONWARNINGS=ignore $(BIN)/python -m pip install --quiet --editable '.[dev]'
	# What tests hold ImageNet-C to. It asks for a second build of OpenCV, which would overwrite ours.
	$(BIN)/python -m pip install --quiet --no-deps imagecorruptions==1.1.2
	# What IIIF manifests are held to. It asks for a Pillow no newer than 12.0.0, only to measure images.
	$(BIN)/python -m pip install --quiet --no-deps iiif-prezi3==3.1.1
	# Only for the axe-core inside, which looks for what readers of screens cannot use in a report.
	$(BIN)/python -m pip install --quiet --no-deps axe-playwright-python==0.1.8
	touch $@

demo: setup ## damage, restore and score sample photographs; look at heliograph-demo/
	$(BIN)/heliograph demo

test: setup ## run the tests, a process per core
	$(BIN)/python -m pytest --numprocesses=auto --dist=loadfile --no-loadscope-reorder

torture: setup ## the long forms of tests: many kills, storage that fails, many mutations of files, much damage
	HELIOGRAPH_KILLS=25 HELIOGRAPH_CRASH_IMAGES=300 $(BIN)/python -m pytest -s tests/test_crash.py tests/test_deadline.py
	HELIOGRAPH_FAULT_ROUNDS=5 HELIOGRAPH_FAULT_IMAGES=60 $(BIN)/python -m pytest -s tests/test_faults.py
	HELIOGRAPH_MUTATIONS=10000 $(BIN)/python -m pytest -s tests/test_fuzz.py
	HELIOGRAPH_REPAIRS=100 HELIOGRAPH_SEED=$$(date +%s) $(BIN)/python -m pytest -s tests/test_repair.py
	HELIOGRAPH_LOCK_ROUNDS=20 $(BIN)/python -m pytest tests/test_two_jobs.py

flink-test: setup ## whole jobs on a Flink cluster on this machine, processes of it killed; needs Java, and Maven once
	$(BIN)/python deploy/flink/cluster.py fetch --folder $(HELIOGRAPH_FLINK)
	HELIOGRAPH_FLINK=$(HELIOGRAPH_FLINK) $(BIN)/python -m pytest -s -v tests/flink

prism-test: setup ## whole jobs on Prism, Beam's runner in Go, which is built first; needs Go
	@command -v go >/dev/null || { echo "Prism is built with Go, which is not installed"; exit 1; }
	test -x $(HELIOGRAPH_PRISM) || GOBIN=$(abspath $(dir $(HELIOGRAPH_PRISM))) go install \
		github.com/apache/beam/sdks/v2/go/cmd/prism@v$$($(BIN)/python -c 'import apache_beam; print(apache_beam.__version__)')
	HELIOGRAPH_PRISM=$(HELIOGRAPH_PRISM) $(BIN)/python -m pytest -v tests/prism

airflow-test: setup $(HELIOGRAPH_AIRFLOW)/.set-up ## read and run the DAGs of deploy/schedules/airflow in an Airflow of their own
	HELIOGRAPH_AIRFLOW=$(HELIOGRAPH_AIRFLOW) $(BIN)/python -m pytest -v tests/airflow

# With Google's provider as the operator needs it: see requirements.txt.
$(HELIOGRAPH_AIRFLOW)/.set-up: tests/airflow/requirements.txt tests/airflow/constraints.txt
	$(BIN)/python -m venv $(HELIOGRAPH_AIRFLOW)
	$(HELIOGRAPH_AIRFLOW)/bin/python -m pip install --quiet --upgrade pip
	$(HELIOGRAPH_AIRFLOW)/bin/python -m pip install --quiet --constraint tests/airflow/constraints.txt \
		--requirement tests/airflow/requirements.txt
	$(HELIOGRAPH_AIRFLOW)/bin/python -m pip install --quiet --constraint tests/airflow/constraints.txt \
		--no-deps apache-airflow-providers-google
	touch $@

lint: setup ## check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: setup ## bring the code into shape
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: setup ## make docs/degradations.md and its pictures, and the parameters of deploy/dataflow
	$(BIN)/python scripts/degradation_gallery.py
	$(BIN)/python deploy/dataflow/template.py metadata > deploy/dataflow/metadata.json

bench: setup ## time degradations, metrics, summaries, reports, the pipeline and shards against plain loops: make bench PHOTOS=folder
	$(BIN)/python benchmarks/degradations.py
	$(BIN)/python benchmarks/throughput.py $(PHOTOS)
	-$(BIN)/python benchmarks/metrics.py
	# These end with an error where a goal is not reached, and all of them are to run.
	-$(BIN)/python benchmarks/reading.py $(PHOTOS)
	-$(BIN)/python benchmarks/sharding.py --large $(PHOTOS)
	-$(BIN)/python benchmarks/sharding.py --tiny $(PHOTOS)
	-$(BIN)/python benchmarks/summary.py
	-$(BIN)/python benchmarks/scoreboard.py
	-$(BIN)/python benchmarks/resume.py
	-$(BIN)/python benchmarks/resume.py --shards
	-$(BIN)/python benchmarks/report.py
	-$(BIN)/python benchmarks/scale.py
	-$(BIN)/python benchmarks/store_requests.py

clean: ## remove what the other targets made
	rm -rf .venv build heliograph-demo *.egg-info .pytest_cache .mypy_cache .ruff_cache
