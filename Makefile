# Every target sets the environment up first; that takes a moment once it is done.
.PHONY: install test golden demo lint docs

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
