# Everything a person or CI does here, one word each.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
PORT ?= 8000
HOME_DIR ?= var
BIN := .venv/bin
LOCK := requirements/dev.lock
BENCH_BIN := .venv-bench/bin
# The environment is whole when this file is newer than what it was made from.
STAMP := .venv/.installed
BENCH_STAMP := .venv-bench/.installed
CLIENTS_STAMP := .venv-clients/.installed
OPENVINO_STAMP := .venv-openvino/.installed
PEERS := mlserver bentoml litserve ray kserve
# Installed from Debian where it is on no path.
WRK := $(shell command -v wrk || echo /usr/bin/wrk)
H2LOAD := $(shell command -v h2load || echo /usr/bin/h2load)
SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo -n)

.PHONY: install run test long soak check format lint types imports bench bench-serving profile-serving peers clients openvino lock clean

install: $(STAMP)

$(STAMP): requirements/installer.lock $(LOCK) pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/installer.lock
	$(BIN)/uv pip sync --quiet --compile-bytecode --require-hashes --python $(BIN)/python $(LOCK)
	$(BIN)/uv pip install --quiet --no-deps --no-build-isolation --python $(BIN)/python --editable .
	@touch $(STAMP)

run: install
	$(BIN)/vitrine up --demo --home $(HOME_DIR) --port $(PORT)

# Several processes, one file of tests at a time each: those of a file share a server.
test: install
	$(BIN)/pytest -n auto --dist loadfile --no-loadscope-reorder

# The tests that take more than ten seconds each: jobs that are trained, servers and workers that are killed. CI runs them.
long: install
	$(BIN)/pytest -n auto --dist loadfile --no-loadscope-reorder -m 'long and not soak'

# The tests that take minutes: many swaps, long loads.
soak: install
	$(BIN)/pytest -m soak -o timeout=1200

check: install format lint types imports test

format:
	$(BIN)/ruff format --check .

lint:
	$(BIN)/ruff check .

types:
	$(BIN)/pyright

imports:
	$(BIN)/lint-imports

bench: install $(BENCH_STAMP)
	$(BIN)/python -m benchmarks.accuracy
	$(BIN)/python -m benchmarks.latency
	$(BENCH_BIN)/python -m benchmarks.shapley

# How fast predictions are served, beside other servers. ARGUMENTS="table --rounds 1 --servers vitrine litserve" for less.
bench-serving: install peers
	$(BIN)/python -m benchmarks.serving --home .bench $(ARGUMENTS)

# Where the time of one request goes.
profile-serving: install $(BENCH_STAMP) $(WRK)
	$(BIN)/python -m benchmarks.serving.profiling --home .bench $(ARGUMENTS)

# The servers that ours is measured beside, each in an environment of its own, and what loads them.
peers: $(WRK) $(H2LOAD) $(PEERS:%=.venv-peers/%/.installed)

.venv-peers/%/.installed: requirements/peers/%.lock $(STAMP)
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python .venv-peers/$*
	$(BIN)/uv pip sync --quiet --compile-bytecode --require-hashes --python .venv-peers/$*/bin/python $<
	@touch $@

/usr/bin/wrk: PACKAGE := wrk
/usr/bin/h2load: PACKAGE := nghttp2-client
/usr/bin/wrk /usr/bin/h2load:
	$(SUDO) apt-get -qq update
	$(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get -qq install --yes --no-install-recommends $(PACKAGE)

# The estimators that ours are measured against, in an environment of their own.
$(BENCH_STAMP): $(STAMP) requirements/bench.lock
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python .venv-bench
	$(BIN)/uv pip sync --quiet --compile-bytecode --require-hashes --python $(BENCH_BIN)/python requirements/bench.lock
	@touch $(BENCH_STAMP)

# The clients that the protocols are tested with, in an environment of their own. The tests make it, too.
clients: install $(CLIENTS_STAMP)

$(CLIENTS_STAMP): requirements/clients.lock
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python .venv-clients
	$(BIN)/uv pip sync --quiet --require-hashes --python .venv-clients/bin/python requirements/clients.lock
	@touch $(CLIENTS_STAMP)

# What a user of the extra `openvino` has. The tests make it, too.
openvino: install $(OPENVINO_STAMP)

$(OPENVINO_STAMP): requirements/openvino.lock
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python .venv-openvino
	$(BIN)/uv pip sync --quiet --require-hashes --python .venv-openvino/bin/python requirements/openvino.lock
	PYTHONPATH=$(wildcard .venv/lib/python3*/site-packages) $(BIN)/uv pip install --quiet --no-deps --no-build-isolation \
		--python .venv-openvino/bin/python --editable .
	@touch $@

# The lock files, from pyproject.toml. They hold hashes and name no registry.
lock:
	$(BIN)/uv pip compile pyproject.toml --extra dev --extra tracking $(COMPILE) -o $(LOCK)
	$(BIN)/uv pip compile pyproject.toml $(COMPILE) --constraint $(LOCK) -o requirements/runtime.lock
	$(BIN)/uv pip compile pyproject.toml --extra tracking $(COMPILE) --constraint $(LOCK) -o requirements/tracking.lock
	$(BIN)/uv pip compile pyproject.toml --extra openvino $(COMPILE) --constraint $(LOCK) -o requirements/openvino.lock
	$(BIN)/uv pip compile pyproject.toml --extra bench $(COMPILE) --constraint $(LOCK) -o requirements/bench.lock
	$(BIN)/uv pip compile pyproject.toml --extra gpu $(COMPILE) --constraint $(LOCK) -o requirements/gpu.lock
	for peer in $(PEERS); do \
		$(BIN)/uv pip compile requirements/peers/$$peer.in $(COMPILE) -o requirements/peers/$$peer.lock || exit 1; \
	done
	$(BIN)/uv pip compile requirements/clients.in $(COMPILE) -o requirements/clients.lock
	echo uv | $(BIN)/uv pip compile - $(COMPILE) --constraint $(LOCK) -o requirements/installer.lock
	echo hatchling | $(BIN)/uv pip compile - $(COMPILE) --constraint $(LOCK) -o requirements/build.lock

COMPILE := --quiet --generate-hashes --no-emit-index-url --no-header --python-version 3.11

clean:
	rm -rf .venv .venv-bench .venv-clients .venv-openvino .venv-peers .bench
