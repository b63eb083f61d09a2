# Two commands do all the set-up: `make demo` and `make test`. Needed: Python 3.11 to 3.13 and make.
PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' >/dev/null 2>&1 && echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
RIVER := build/river
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help demo test eval bench conformance faults faults-broken soak lint format lock clean

help:
	@echo "make demo   run the whole path on real vitals with attacks mixed in   (ARGS='--seconds 30 --report r.json')"
	@echo "make test   run the tests                                            (ARGS='-k replay')"
	@echo "make eval   measure the detectors: false alarms, recall, delay, CPU   (DATA=DIR for labelled series)"
	@echo "make bench  measure throughput, latency, CPU and memory, and two baselines   (ARGS='--rounds 1')"
	@echo "make conformance   foreign verifiers and receivers; needs Go, Node, Python 3.12+ and Debian packages"
	@echo "make faults   schedules of faults drawn from a seed   (ARGS='--seconds 300 --seed 7')"
	@echo "make faults-broken   does the fault machine find builds that are broken on purpose?"
	@echo "make soak   an hour of steady load; is memory flat?   (ARGS='--seconds 600')"
	@echo "make lint   ruff, mypy --strict, import rules"
	@echo "make lock   compile requirements.txt anew from pyproject.toml"

$(READY): requirements.txt pyproject.toml
	@test -n "$(PYTHON)" || { echo "attestream needs Python 3.11, 3.12 or 3.13 on the PATH" >&2; exit 1; }
	@$(PYTHON) deploy/environment.py $(VENV) requirements.txt
	@touch $@

demo: $(READY)
	@$(BIN)/attestream demo $(ARGS)

test: $(READY)
	@$(BIN)/python -m pytest $(ARGS)

# Writes build/eval.json.
eval: $(READY) $(if $(DATA),,$(RIVER)/.ready)
	@$(BIN)/python -m tests.eval $(if $(DATA),--data "$(DATA)",--river $(RIVER)) $(ARGS)

# Writes build/bench.json and build/bench.html; under 30 minutes.
bench: $(READY)
	@$(BIN)/attestream loadtest bench $(ARGS)

# The baselines' packages, in a folder of their own: nothing else is to find them.
$(RIVER)/.ready: tests/eval/requirements.txt | $(READY)
	@rm -rf $(RIVER)
	@$(BIN)/python -m pip --disable-pip-version-check install -q --require-hashes --target $(RIVER) -r $<
	@touch $@

# Needs Go, Node, Python 3.12 or newer and Debian packages besides: verifiers and receivers that nobody here
# wrote, and our second verifier.
conformance: $(READY)
	@$(BIN)/python -m pytest tests/verifier tests/receivers
	@$(BIN)/python -m tests.conformance $(ARGS)

# Writes build/faults.json; a schedule that finds something is printed with its seed.
faults: $(READY)
	@$(BIN)/python -m tests.faults.machine $(ARGS)

# Exit code 0 only when every broken build was found and the right one is clean.
faults-broken: $(READY)
	@$(BIN)/python -m tests.faults.machine.brokenrun $(ARGS)

# Writes build/soak.json.
soak: $(READY)
	@$(BIN)/python -m tests.faults.soak $(ARGS)

lint: $(READY)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@PYTHONPATH=. $(BIN)/lint-imports

format: $(READY)
	@$(BIN)/ruff check --fix-only -q .
	@$(BIN)/ruff format -q .

lock: $(READY)
	@$(PYTHON) -m venv build/lock && build/lock/bin/pip install -q uv
	@build/lock/bin/uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 \
		--generate-hashes --custom-compile-command "make lock" -q -o requirements.txt

clean:
	rm -rf build $(VENV)
