# Needs Python 3.11 or later and make. PYTHON=... chooses the interpreter.
PYTHON ?= python3
BIN := .venv/bin
DEMO_READY := .venv/demo-ready
READY := .venv/ready
PIP := $(BIN)/python -m pip install --disable-pip-version-check --constraint constraints.txt
PYTEST := TF_NUM_INTRAOP_THREADS=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses logical --maxprocesses 4 --dist worksteal
DEMO := --recipe fast
BENCHMARKS := saat_step attack_speed cost map mainstay many_classes pipeline encoder demo

.PHONY: demo test test-fast coverage gpu lint bench bench-quick tables refinements clean

demo: $(DEMO_READY)  ## hash, attack and defend drawn images: at most 3 minutes on 2 cores, once the packages are installed
	$(BIN)/python -m trainers.scenes $(DEMO) $(DEMO_OPTIONS)

test: $(READY)  ## the whole suite, a process for each core and a thread of TensorFlow for each process
	$(PYTEST)

test-fast: $(READY)  ## the suite without the tests that are marked as slow: those that take over a second of one core, in all cases together
	$(PYTEST) -m "not slow"

coverage: $(READY)  ## the whole suite with line and branch coverage: a table, and pages in htmlcov/
	$(PYTEST) --cov --cov-report=term --cov-report=html

gpu: $(READY)  ## install CUDA's libraries, see whether TensorFlow finds a GPU, then check and time everything on it
	$(PIP) --quiet --editable ".[gpu]"
	$(BIN)/python -c "import tensorflow as tf; gpus = tf.config.list_physical_devices('GPU'); print(gpus); raise SystemExit(0 if gpus else 'TensorFlow sees no GPU: see docs/scale.md')"
	$(BIN)/python -m benchmarks.gpu

lint: $(READY)  ## style, types, and the direction of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(READY)  ## run each benchmark at full size, one after the other; writes docs/results/*.json and states them
	set -e; for name in $(BENCHMARKS); do $(BIN)/python -m benchmarks.$$name; done
	$(BIN)/python -m benchmarks.performance_table

bench-quick: $(READY)  ## whether each benchmark works; figures go to runs/bench-quick
	set -e; for name in $(BENCHMARKS); do $(BIN)/python -m benchmarks.$$name --quick; done

tables: $(READY)  ## make the paper's tables on Corel-5K and docs/results.md: DATA=folder, resumes where it stopped
	$(BIN)/python -m benchmarks.tables --data-dir $(DATA) $(TABLES_OPTIONS)

refinements: $(READY)  ## what each refinement of adversarial training gives on Corel-5K: DATA=folder, resumes where it stopped
	$(BIN)/python -m benchmarks.refinements --data-dir $(DATA)

$(BIN)/python:
	$(PYTHON) -m venv .venv
	$(PIP) --quiet --upgrade pip setuptools

$(DEMO_READY): pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing what the demo needs, TensorFlow and Keras above all; later only when the versions change."
	$(PIP) --editable .
	touch $@

$(READY): $(DEMO_READY)
	@echo "Installing what tests, lint and benchmarks need besides."
	$(PIP) --editable ".[dev,pretrained,litert,serving,search,milvus,ray,demo,runtimes]"
	touch $@

clean:  ## remove the environment; runs stay
	rm -rf .venv
