# Two commands do all the set-up: `make demo` and `make test`. Needed: Python 3.11 to 3.13 and make.
PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' >/dev/null 2>&1 && echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
RIVER := build/river
NATIVE := $(CURDIR)/build/native
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help demo test eval bench bench-costs bench-scale profile native native-test conformance faults faults-broken soak lint format lock clean

help:
	@echo "make demo   run the whole path on real vitals with attacks mixed in   (ARGS='--seconds 30 --report r.json')"
	@echo "make test   run the tests                                            (ARGS='-k replay')"
	@echo "make eval   measure the detectors: false alarms, recall, delay, CPU   (DATA=DIR for labelled series)"
	@echo "make bench  measure throughput, latency, CPU and memory, and three baselines   (ARGS='--rounds 1')"
	@echo "make profile  draw where the CPU time of ingest goes, as a flame graph"
	@echo "make bench-costs   measure what attestream size reckons with               (ARGS='--rounds 1')"
	@echo "make bench-scale   do costs grow linearly with devices and leaves?         (ARGS='--workers')"
	@echo "make native   build the Rust crate that verifies signatures in batches, into .venv; needs cargo"
	@echo "make native-test   test the crate, and the verification of signatures with it"
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

# Writes build/costs.json; some five minutes.
bench-costs: $(READY)
	@$(BIN)/attestream loadtest costs $(ARGS)

# Writes build/scale.json; some fifteen minutes, and 15 GB of disk meanwhile.
bench-scale: $(READY)
	@$(BIN)/attestream loadtest scale $(ARGS)

# Writes build/ingest.svg, a flame graph.
profile: $(READY) build/profiler/.ready
	@$(BIN)/attestream loadtest profile --py-spy build/profiler/bin/py-spy $(ARGS)

build/profiler/.ready: deploy/profiler.txt | $(READY)
	@rm -rf build/profiler
	@$(BIN)/python -m pip --disable-pip-version-check install -q --require-hashes --target build/profiler -r $<
	@touch $@

# The baselines' packages, in a folder of their own: nothing else is to find them.
$(RIVER)/.ready: tests/eval/requirements.txt | $(READY)
	@rm -rf $(RIVER)
	@$(BIN)/python -m pip --disable-pip-version-check install -q --require-hashes --target $(RIVER) -r $<
	@touch $@

ifneq ($(filter native native-test,$(MAKECMDGOALS)),)
ifeq ($(shell command -v cargo),)
$(error attestream: the crate needs cargo on the PATH; without the crate everything works)
endif
endif

native: $(VENV)/.native
	@$(BIN)/python -c 'import schemas.ed25519 as e; print(f"signatures are verified by {e.VERIFIER}")'

# Run within native/, where cargo finds its settings. A new .venv has no crate, so it depends on that.
$(VENV)/.native: $(READY) $(NATIVE)/.maturin $(wildcard native/* native/.cargo/* native/src/*)
	@rm -rf $(NATIVE)/wheels
	@cd native && CARGO_TARGET_DIR=$(NATIVE)/target $(NATIVE)/maturin/bin/maturin build -q --release \
		--compatibility linux --interpreter $(CURDIR)/$(BIN)/python --out $(NATIVE)/wheels
	@$(BIN)/python -m pip --disable-pip-version-check install -q --no-index --no-deps --force-reinstall \
		$(NATIVE)/wheels/*.whl
	@touch $@

# The build tool, in an environment of its own.
$(NATIVE)/.maturin: native/requirements.txt | $(READY)
	@rm -rf $(NATIVE)/maturin
	@$(BIN)/python -m venv $(NATIVE)/maturin
	@$(NATIVE)/maturin/bin/pip --disable-pip-version-check install -q --require-hashes -r $<
	@touch $@

native-test: native
	@cd native && cargo fmt --check
	@cd native && PYO3_PYTHON=$(CURDIR)/$(BIN)/python CARGO_TARGET_DIR=$(NATIVE)/target \
		cargo clippy -q --locked --all-targets --all-features -- -D warnings
	@cd native && CARGO_TARGET_DIR=$(NATIVE)/target cargo test -q --locked
	@ATTESTREAM_NATIVE=require $(BIN)/python -m pytest $(ARGS) tests/native tests/schemas/test_ed25519.py \
		tests/schemas/test_native.py tests/schemas/test_opening.py tests/schemas/test_records.py \
		tests/processors/test_authenticate.py tests/processors/detect/test_manyblocks.py \
		tests/pipeline/test_shard_rules.py

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
