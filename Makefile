# `make chat` and `make test` need python3 (with venv and its headers), zlib's headers, gcc and make; `make help` lists the
# rest. On Debian python3-dev brings both kinds of headers.
# ARGS goes to pytest: make test ARGS="-k frames -x"; with -n0 among them the tests run in one process, as --pdb wants.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip -qq --disable-pip-version-check install
SOURCES := $(shell find src/crest -name '*.p[yx][xd]' -o -name '*.h')
JOBS := $(shell getconf _NPROCESSORS_ONLN)
TESTERS := $(shell expr $(JOBS) + 1)# processes: tests wait for a third of their time
SECONDS ?= 60
MINUTES ?= 10
AUTOBAHN ?= ../shared/tools/autobahn/run.sh
LIBASAN = $(shell $(CC) -print-file-name=libasan.so)
SANITIZED = LD_PRELOAD="$(LIBASAN)" ASAN_OPTIONS=detect_leaks=0 PYTHONMALLOC=malloc \
	PYTHONPATH="$$(echo build/sanitize/lib.*)"

.PHONY: help chat test mounted uvicorn eager coverage hostile bench compare bench-guard lint types sanitize sanitize-extensions sanitized \
	fuzz soak autobahn dist clean
.DELETE_ON_ERROR:

help: ## List what make can do
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-20s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

chat: $(VENV)/installed ## Serve the chat of the docs; HOST=127.0.0.1 PORT=8000
	@echo "Serving the chat; Ctrl-C ends it"
	@exec $(BIN)/python examples/chat.py

test: $(VENV)/installed ## Run the tests
	@echo "Running the tests: less than ten minutes on two cores"
	@$(BIN)/python -m pytest -n $(TESTERS) --dist load $(ARGS)

mounted: $(VENV)/installed ## Run the tests of servers once more, mounted in an ASGI application under uvicorn
	@CREST_TESTS_MOUNTED=1 $(BIN)/python -m pytest -n $(TESTERS) --dist load $(ARGS) \
		$$(PYTHONPATH=tests $(BIN)/python tests/support/mounting.py)

uvicorn: $(VENV)/installed ## Run uvicorn's own WebSocket tests with crest's class; ARGS=0.55.0 for another release
	@echo "Running uvicorn's own tests"
	@$(BIN)/python tests/asgi/own_tests.py $(ARGS)

eager: ## Run the tests with tasks that begin at once, in a venv of its own; PYTHON=one that is 3.12 or newer
	@$(PYTHON) -c "import sys; sys.version_info >= (3, 12) or sys.exit('eager tasks need CPython 3.12 or newer: set PYTHON')"
	@CREST_EAGER_TASKS=1 $(MAKE) --no-print-directory VENV=.venv-eager test

coverage: $(VENV)/group-coverage ## Say which lines no test runs, and fail for one without a reason; ARGS=--again judges anew
	@echo "Building the extension modules with line tracing"
	@mkdir -p build
	@CREST_LINETRACE=1 $(BIN)/python setup.py --quiet build --parallel $(JOBS) >build/linetrace.log 2>&1 \
		|| { cat build/linetrace.log; exit 1; }
	@echo "Running the tests with line tracing"
	@$(BIN)/python tests/lines/runner.py -n $(TESTERS) $(ARGS)

hostile: sanitized ## Run code that is hostile to crest, plain and under sanitizers: hours; ARGS="--seconds 60" for a sample
	@echo "Running hostile code"
	@$(BIN)/python tests/hostile/run.py $(ARGS)
	@echo "Running hostile code under sanitizers"
	@$(SANITIZED) $(BIN)/python tests/hostile/run.py $(ARGS)

bench: $(VENV)/group-bench ## Compare kernels and frames with other implementations, without sockets
	@echo "Running the benchmarks"
	@$(BIN)/python -m pytest benches $(ARGS)

compare: $(VENV)/installed ## Compare with other servers, over real sockets: half an hour; ARGS=--quick to see it work
	@echo "Comparing with other servers"
	@$(BIN)/python benches/compare.py $(ARGS)

bench-guard: $(VENV)/installed ## Count instructions of the core paths against the baseline, with valgrind
	@echo "Counting instructions"
	@$(BIN)/python benches/guard.py $(ARGS)

lint: $(VENV)/group-lint ## Check style: ruff, cython-lint, and zizmor for the workflows
	@echo "Checking style"
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@PATH="$(BIN):$$PATH" cython-lint src
	@$(BIN)/zizmor --offline --no-progress --quiet --persona pedantic .github

types: $(VENV)/group-lint ## Check types, and the stubs against the compiled modules
	@echo "Checking types"
	@$(BIN)/python -m mypy --strict src/crest tests/typing/check_public_api.py tests/typing/accepted
	@$(BIN)/python -m mypy.stubtest crest --mypy-config-file pyproject.toml \
		--allowlist tests/typing/stubtest_allowlist.txt
	@$(BIN)/python -m pytest -q tests/test_typing.py

sanitize: ## Test the C kernels under AddressSanitizer and UndefinedBehaviorSanitizer
	@echo "Testing the kernels under sanitizers"
	@$(MAKE) --no-print-directory -C tests/kernels check

sanitized: $(VENV)/installed
	@echo "Building the extension modules with sanitizers"
	@CREST_SANITIZE=1 $(BIN)/python setup.py --quiet build --parallel $(JOBS) >build/sanitize.log 2>&1 \
		|| { cat build/sanitize.log; exit 1; }

sanitize-extensions: sanitized ## Run tests of the extension modules under sanitizers
	@echo "Running tests under sanitizers"
	@$(SANITIZED) $(BIN)/python -m pytest tests/kernels tests/wire tests/io $(ARGS)

fuzz: $(VENV)/group-fuzz ## Search for faults with libFuzzer, under sanitizers; SECONDS=60 for each target, ARGS=TARGET for one
	@echo "Building the targets, and running each"
	@$(BIN)/python tests/fuzz/runner.py --seconds $(SECONDS) $(ARGS)

soak: $(VENV)/installed ## Serve mixed traffic and watch memory, descriptors and counts; MINUTES=10
	@echo "Serving mixed traffic for $(MINUTES) minutes"
	@$(BIN)/python tests/soak/runner.py --minutes $(MINUTES) $(ARGS)

autobahn: $(VENV)/installed ## Run Autobahn's suite; AUTOBAHN=path of its run.sh
	@echo "Running Autobahn's suite"
	@$(BIN)/python .ci/autobahn.py $(AUTOBAHN)

dist: $(VENV)/group-package $(VENV)/group-wheels ## Build sdist and wheel, and test the wheel in a venv of its own
	@echo "Comparing the wheels that a release has with those that are wanted"
	@$(BIN)/python .ci/wheels.py planned
	@echo "Building sdist and wheel"
	@rm -rf dist build/wheel
	@mkdir -p build
	@$(BIN)/python -m build --sdist --outdir build/wheel >build/dist.log 2>&1 || { cat build/dist.log; exit 1; }
	@# From the sdist alone, with what build-system.requires names: no index is asked.
	@$(BIN)/python -m pip --disable-pip-version-check wheel --no-index --no-deps --no-build-isolation \
		--wheel-dir build/wheel build/wheel/*.tar.gz >>build/dist.log 2>&1 || { cat build/dist.log; exit 1; }
	@PATH="$(BIN):$$PATH" auditwheel repair --strip --wheel-dir dist build/wheel/*.whl
	@mv build/wheel/*.tar.gz dist
	@$(BIN)/python -m twine check --strict dist/*
	@$(BIN)/check-wheel-contents dist
	@echo "Testing the wheel"
	@PYTHON=$(abspath $(BIN)/python) .ci/test-wheel dist/*.whl

clean: ## Remove everything that was built, the venv included
	rm -rf $(VENV) .venv-eager .venv-uvicorn .bench-venv build dist src/*.egg-info .mypy_cache .pytest_cache .ruff_cache .benchmarks
	find src \( -name '*.so' -o -name __pycache__ \) -prune -exec rm -rf {} +

# ---- The venv: each file says that a step has been done since what it depends on changed -------------------------

$(VENV)/tools: pyproject.toml
	@echo "Making $(VENV) with $(PYTHON), and then the first build: a minute or two on two cores"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -c "import os, sys, sysconfig as s; os.path.exists(s.get_path('include') + '/Python.h') \
		or sys.exit('Python.h is missing: install the headers of $(PYTHON), python3-dev on Debian')"
	@echo '#include <zlib.h>' | $(CC) $(if $(ZLIB_ROOT),-I$(ZLIB_ROOT)/include) -E -o /dev/null - 2>/dev/null \
		|| { echo 'zlib.h is missing: install the headers of zlib, zlib1g-dev on Debian, or set ZLIB_ROOT' >&2; exit 1; }
	@echo "Installing the build tools"
	@$(PIP) "pip>=25.1"
	@$(PIP) $$($(BIN)/python -c "import tomllib as t; \
		print(*t.load(open('pyproject.toml', 'rb'))['build-system']['requires'])")
	@touch $@

$(VENV)/built: $(VENV)/tools setup.py $(SOURCES)
	@echo "Building the extension modules (log: build/log)"
	@mkdir -p build
	@$(BIN)/python setup.py build_ext --inplace --parallel $(JOBS) $(if $(filter setup.py,$?),--force) >build/log 2>&1 \
		|| { cat build/log; exit 1; }
	@touch $@

$(VENV)/installed: $(VENV)/tools | $(VENV)/built
	@echo "Installing crest into $(VENV), editable"
	@CREST_BUILT=1 $(PIP) --no-build-isolation --editable . --group test --group loops --group asgi
	@touch $@

$(VENV)/group-%: $(VENV)/tools | $(VENV)/installed
	@echo "Installing what '$*' needs"
	@$(PIP) --group $*
	@touch $@
