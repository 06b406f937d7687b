# Every target sets the environment up first; that takes a moment once it is done.
.PHONY: install test golden demo lint docs zoo

PYTHON_BIN := .venv/bin/python

# One process a core, up to 8 (each holds a torch of its own), each with one thread: the
# tests' networks are small, and threads would fight over the cores.
WORKERS ?= $(shell n=$$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2); \
	[ $$n -gt 8 ] && echo 8 || echo $$n)
# Further arguments of pytest: make test ARGS='-k policy'
ARGS ?=

install:
	@bash tools/dev/setup_env.sh

test: install
	OMP_NUM_THREADS=1 $(PYTHON_BIN) -m pytest -n $(WORKERS) --dist loadfile $(ARGS)

# What searches, trainings and exports give, compared with a commit: make golden BASE=HEAD~1
golden: install
	@$(if $(BASE),,$(error Name the commit to compare with: make golden BASE=<commit>))
	$(PYTHON_BIN) tests/golden/run.py against $(BASE) $(ARGS)

demo: install
	$(PYTHON_BIN) tools/demo.py

lint: install
	$(PYTHON_BIN) -m ruff check .
	.venv/bin/lint-imports

docs: install
	NO_MKDOCS_2_WARNING=1 $(PYTHON_BIN) -m mkdocs build --strict

# Checks every network of the model zoo; hours, so it may be killed and called again: rows
# in the CSV stay. ZOO is the folder of the lists.
ZOO ?= ../shared/zoo
ZOO_WORKERS ?= 2
ZOO_CSV := docs/measurements/zoo.csv
CHECK_ZOO = OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 $(PYTHON_BIN) tools/check_zoo.py \
	--seconds 900 --gigabytes 10 --workers $(ZOO_WORKERS) --out $(ZOO_CSV) $(ARGS)
zoo: install
	@$(if $(wildcard $(ZOO)/*.csv),,$(error There are no lists of networks in $(ZOO): \
		name the folder that has them with make zoo ZOO=<folder>))
	$(PYTHON_BIN) -m pip --disable-pip-version-check install --quiet \
		-c requirements/constraints.txt -r requirements/zoo.txt
	$(CHECK_ZOO) --package mmdet $(ZOO)/mmdet_3.5.1.csv
	$(CHECK_ZOO) --package mmpretrain --prefix _base_/models/ $(ZOO)/mmpretrain_1.3.6.csv
	$(PYTHON_BIN) -m tools.dev.reach --lists $(ZOO)
