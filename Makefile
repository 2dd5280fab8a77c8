# Every target sets itself up: Python 3.11 or later, make and git are all a machine needs.
PRESET ?= smoke
PYTHON ?= python3
BIN := .venv/bin
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: reproduce figures check test test-all bench publish workshop site slides badges lab doctor clean

reproduce: .venv/ready        ## notebooks 00-05 at PRESET, then a table of minutes and figures
	$(BIN)/python -m agentlib run --preset $(PRESET) $(ARGS)

figures: .venv/ready          ## redraw the figures from committed records
	$(BIN)/python -m agentlib run --preset $(PRESET) --only 05 --only 05b

NEEDS := model or isolation or notebook or cluster or browser or server
LINT := $(BIN)/ruff check agentlib tests tools notebooks/src && $(BIN)/ruff format --check agentlib tests tools && $(BIN)/lint-imports --no-cache --no-logo

check: .venv/ready-test       ## before each commit: lint, and the tests that need no model, sandbox, notebook, server, cluster or browser
	$(LINT)
	$(BIN)/python -m pytest -m "not ($(NEEDS) or full)" $(ARGS)

test: .venv/ready-test        ## that, and one real thing of each kind; notebooks 00-05 whole, on a tiny model
	$(LINT)
	$(BIN)/python -m pytest -m "not full" $(ARGS)

test-all: .venv/ready-test    ## everything: the smoke run fresh and resumed, every attack on both backends, kills, clusters, servers, the paper preset
	$(LINT)
	$(BIN)/python -m pytest $(ARGS)

bench: .venv/ready-bench      ## measure against peers, on an idle machine; appends to tests/benchmarks/*.jsonl
	for work in starting sandbox retrieval nearest training generation pausing engines; do $(BIN)/python tests/benchmarks/$$work.py || exit 1; done

# 02 to 05 are kept at laptop: make publish PRESET=laptop ARGS='--from-records --only 02 --only 03 --only 04 --only 05 --only 05b --only 05c'
publish: .venv/ready-test     ## run the notebooks and keep their outputs in notebooks/ (afresh: ARGS=--no-resume)
	$(BIN)/jupytext --sync notebooks/src/*.py
	$(BIN)/python -m agentlib run --preset $(PRESET) --publish $(ARGS)

workshop: .venv/ready         ## student copies of the notebooks, without the solutions, in workshop/
	$(BIN)/python tools/workshop.py

site: .venv/ready             ## the executed notebooks and figures of PRESET as pages that open from disk: runs/PRESET/site/index.html
	$(BIN)/python tools/website.py --preset $(PRESET)

slides: .venv/ready           ## ten slides for a workshop, one file that opens from disk: runs/slides.html
	$(BIN)/python tools/slides.py $(ARGS)

badges: .venv/ready           ## links that open this copy's notebooks in Colab and Binder; once it is on GitHub, or ARGS=--repository=owner/name
	$(BIN)/python tools/badges.py $(ARGS)
	$(BIN)/jupytext --sync notebooks/src/*.py

lab: .venv/ready              ## open the notebooks
	$(BIN)/jupyter lab notebooks

.venv/ready: requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python is %d.%d, expected 3.11 or later; call make with PYTHON=python3.11" % sys.version_info[:2])'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@

.venv/ready-test: .venv/ready requirements-test.lock
	$(BIN)/python -m pip install --quiet --requirement requirements-test.lock
	touch $@

.venv/ready-bench: .venv/ready-test requirements-bench.lock
	$(BIN)/python -m pip install --quiet --requirement requirements-bench.lock
	touch $@

doctor: .venv/ready           ## report on this machine and on what PRESET needs of it, to paste into an issue; ARGS='--set …'
	$(BIN)/python -m agentlib doctor --preset $(PRESET) $(ARGS)

clean:                        ## remove the environment and all runs (not the download cache, nor what is committed)
	rm -rf .venv runs build agentlib.egg-info .pytest_cache .ruff_cache .hypothesis
