# Everything runs in .venv, which the first target that needs it sets up.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/ready
PEERS := build/peers

.PHONY: demo test check bench bench-attacks bench-training bench-recovery bench-masks bench-report format clean

demo: $(READY)  ## train four defences on the built-in digits, attack them, write reports/demo/report.html
	$(BIN)/sparring study demo

test: $(READY)  ## all tests, one process a core
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal

check: $(READY)  ## style, types, and who may import whom
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(READY)  ## speed beside bare PyTorch, by hand: a quiet machine and a few minutes
	$(BIN)/python benchmarks/speed.py

bench-attacks: $(PEERS)/ready  ## our attacks beside other libraries', by hand: a quiet machine and half an hour
	PYTHONPATH=$(PEERS)/auto-attack $(PEERS)/bin/python benchmarks/attacks.py $(ARGUMENTS)

bench-training: $(PEERS)/ready  ## what our training steps cost, beside bare passes and other trainers, by hand
	PYTHONPATH=$(PEERS)/TRADES $(PEERS)/bin/python benchmarks/training.py $(ARGUMENTS)

bench-recovery: $(READY)  ## latent recovery of all MNIST images, by hand; ARGUMENTS="--model RUN --classifier RUN"
	$(BIN)/python benchmarks/recovery.py $(ARGUMENTS)

bench-masks: $(READY)  ## speed on photographs, by hand: a quiet machine and half an hour; ARGUMENTS="passes" for a part
	$(BIN)/python benchmarks/masks.py $(ARGUMENTS)

bench-report: $(READY)  ## what a report of ten models costs, by hand; ARGUMENTS=a study's results.json
	$(BIN)/python benchmarks/report.py $(ARGUMENTS)

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf .venv build dist

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Sparring needs Python 3.11 or newer: make PYTHON=python3.12")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@

# The peers live apart: some ask for old versions of what we use, hence --no-deps, and six and the like for their imports.
$(PEERS)/ready: constraints.txt benchmarks/peers.txt
	test -x $(PEERS)/bin/python || $(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable . six tqdm requests GitPython
	$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --requirement benchmarks/peers.txt
	test -d $(PEERS)/auto-attack || git clone --quiet https://github.com/fra31/auto-attack $(PEERS)/auto-attack
	test -d $(PEERS)/TRADES || git clone --quiet https://github.com/yaodongyu/TRADES $(PEERS)/TRADES
	touch $@
