# make run and make test do all their own set-up; `make help` lists the rest.
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
RUNS   := $(VENV)/.runs
# Python keeps what it compiled. Otherwise pytest rewrites each test module anew, in each of its processes: 5 of 8 seconds.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help run test heavy check format lint types imports fast conformance generate lock dist wheels docs bench bench-check hostile fuzz clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

CHECK_PYTHON = $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed, this is " + sys.version.split()[0] + "; say which with: make PYTHON=python3.12 ...")'

# What running needs, and no more. pip comes from PYTHON if it has one, bytecode is made when it is first needed, and two
# pips share the work: each needs one core.
RUN_LOCKS := docker/bridge.lock docker/build.lock
$(RUNS): pyproject.toml $(RUN_LOCKS)
	@$(CHECK_PYTHON)
	@test -x $(BIN)/python || { echo "1/3 making $(VENV) ..."; \
	  if $(PYTHON) -m pip --version >/dev/null 2>&1; then $(PYTHON) -m venv --without-pip $(VENV); else $(PYTHON) -m venv $(VENV); fi; }
	@echo "2/3 installing $$(cat $(RUN_LOCKS) | grep -c ==) packages ..."
	@awk '/^[^ #]/ { n++ } { print > ("$(VENV)/half" n % 2 ".txt") }' $(RUN_LOCKS)
	@$(RUN_PIP) -r $(VENV)/half0.txt > $(VENV)/half0.log 2>&1 & one=$$!; $(RUN_PIP) -r $(VENV)/half1.txt > $(VENV)/half1.log 2>&1 & other=$$!; \
	  while kill -0 $$one 2>/dev/null || kill -0 $$other 2>/dev/null; do \
	    sleep 0.2; test ! -t 1 || printf '\r    %s fetched' "$$(cat $(VENV)/half?.log | grep -c '^Collecting')"; done; test ! -t 1 || echo; \
	  wait $$one && wait $$other || { tail -n 20 $(VENV)/half?.log; exit 1; }
	@echo "3/3 installing the bridge ..."
	@$(PIP) --quiet --no-compile --no-deps --no-build-isolation -e .
	@touch $@

RUN_PIP = $(PIP) --no-deps --only-binary :all: --no-compile --require-hashes
PIP = $$(if $(BIN)/python -m pip --version >/dev/null 2>&1; then echo $(BIN)/python -m pip; else echo $(PYTHON) -m pip --python $(BIN)/python; fi) install --disable-pip-version-check

$(READY): pyproject.toml requirements-dev.lock
	@echo "setting up $(VENV) for development (first time: about half a minute) ..."
	@$(CHECK_PYTHON)
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(BIN)/python -m ensurepip >/dev/null
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@ $(RUNS)

run: $(RUNS) ## the bridge with the example functions, on localhost:50051
	@$(BIN)/grpc-lambda-bridge serve --config lambda_fn/examples/bridge.yaml

# Tests wait for processes more than they compute, hence two for each core. Files run in their order: those of whole
# processes come first, so that no long one is left at the end.
JOBS ?= $$((2 * $$(getconf _NPROCESSORS_ONLN)))
test: $(READY) ## everything that must pass, but for `make heavy`
	@$(MAKE) --no-print-directory lint types imports
	@$(BIN)/pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder -m "not full"
	@echo "left out: what takes minutes of compilers, downloads and fuzzing; make heavy runs it"

heavy: $(READY) ## fuzzing, compilers, downloads: what depends on what has changed (CI_FULL=1: all)
	@$(BIN)/python -m tests.heavy

check: $(READY) ## format, lint, types, import rules, fast tests: the inner loop
	@$(MAKE) --no-print-directory format lint types imports fast

format: $(READY) ## rewrite the code in the one layout
	@$(BIN)/ruff format --quiet .
	@$(BIN)/ruff check --quiet --fix --exit-zero --select I .

lint: $(READY)
	@$(BIN)/ruff format --quiet --check . || { echo "layout differs: run 'make format'"; exit 1; }
	@$(BIN)/ruff check --quiet .

types: $(READY)
	@$(BIN)/mypy --no-error-summary

imports: $(READY)
	@$(BIN)/lint-imports > .venv/imports.log || { cat .venv/imports.log; exit 1; }

fast: $(READY)
	@$(BIN)/pytest -q -n 2 tests/unit tests/function -m "not slow" --hypothesis-profile fast

generate: $(READY) ## make the generated code of the examples anew
	@$(BIN)/python -m grpc_tools.protoc -I . -I $$($(BIN)/python -c 'import google.api, pathlib; print(pathlib.Path(google.api.__path__[0]).parents[1])') --python_out=. --pyi_out=. --grpc_python_out=. lambda_fn/examples/helloworld.proto lambda_fn/examples/echo.proto lambda_fn/examples/ping.proto tests/support/protos/interop.proto tests/support/protos/conformance.proto

LOCKED := --universal --python-version 3.11 --quiet --no-header --generate-hashes --no-annotate
lock: $(READY) ## resolve the locked dependencies anew from pyproject.toml
	@$(BIN)/python -m pip install --quiet uv
	@$(BIN)/uv pip compile pyproject.toml --extra dev --extra local --extra package --extra otel --extra sigv4a $(LOCKED) -o requirements-dev.lock
	@$(BIN)/uv pip compile pyproject.toml $(LOCKED) -c requirements-dev.lock -o docker/bridge.lock
	@$(BIN)/uv pip compile pyproject.toml --extra otel $(LOCKED) -c requirements-dev.lock -o docker/bridge-otel.lock
	@$(BIN)/uv pip compile lambda_fn/pyproject.toml $(LOCKED) -c requirements-dev.lock -o docker/function/requirements.txt
	@echo 'hatchling>=1.27' | $(BIN)/uv pip compile - $(LOCKED) -c requirements-dev.lock -o docker/build.lock
	@$(BIN)/uv pip compile --group docs $(LOCKED) -c requirements-dev.lock -o $(DOCS_LOCK)

dist: $(READY) ## dist/: wheels and sdists of grpc-lambda-bridge and grpc-lambda-fn
	@rm -rf dist/grpc_lambda_*
	@$(BIN)/python -m build --quiet --no-isolation --outdir dist .
	@$(BIN)/python -m build --quiet --no-isolation --outdir dist lambda_fn

wheels: dist

# The site's packages have an environment of their own: neither running nor developing waits for them.
DOCS := .cache/docs
DOCS_LOCK := docs/mkdocs/requirements.lock
$(DOCS)/.ready: $(DOCS_LOCK)
	@$(CHECK_PYTHON)
	@echo "1/3 making $(DOCS) ..."
	@test -x $(DOCS)/bin/python || $(PYTHON) -m venv $(DOCS)
	@echo "2/3 installing $$(grep -c == $(DOCS_LOCK)) packages ..."
	@$(DOCS)/bin/python -m pip install --disable-pip-version-check --no-deps --require-hashes -r $(DOCS_LOCK) > $(DOCS)/install.log 2>&1 & pip=$$!; \
	  while kill -0 $$pip 2>/dev/null; do \
	    sleep 0.2; test ! -t 1 || printf '\r    %s fetched' "$$(grep -c '^Collecting' $(DOCS)/install.log)"; done; test ! -t 1 || echo; \
	  wait $$pip || { tail -n 20 $(DOCS)/install.log; exit 1; }
	@touch $@

docs: $(DOCS)/.ready ## the documentation site, into build/site; fails for links that lead nowhere
	@echo "3/3 building the site ..."
	@NO_MKDOCS_2_WARNING=1 $(DOCS)/bin/mkdocs build --strict --quiet
	@echo "open build/site/index.html"

BENCH ?= --pairs 5
bench: ## speed beside Envoy and nghttpx, into benchmarks/results/ (BENCH="--pairs 2 --only cpu")
	@bash benchmarks/prepare
	@$$(head -n 1 .cache/bench/interpreters) -m benchmarks.run --envoy .cache/bench/envoy-binary --out benchmarks/results --python $$(cat .cache/bench/interpreters) $(BENCH)

HOSTILE ?= --rounds 3 --out docs/hostile.md
hostile: ## what one client can do to the others, beside Envoy, into docs/hostile.md (HOSTILE="--only small_data")
	@bash benchmarks/prepare
	@$$(head -n 1 .cache/bench/interpreters) -m benchmarks.hostile.run --envoy .cache/bench/envoy-binary $(HOSTILE)

bench-check: $(READY) ## fails when the cost of a call rises
	@$(BIN)/python -m benchmarks.regression

conformance: $(READY) ## connectrpc's conformance suite, in each setting or those named (CONFORMANCE="json http-target")
	@bash .ci/tools conformance
	@$(BIN)/python -m tests.conformance.connectrpc $(CONFORMANCE)

# The same choices each time: a build fails for what has changed, not for what chance finds.
FUZZ ?= --seconds 20 --seed 1
fuzz: $(READY) ## feed the readers of outside bytes from atheris (FUZZ="--seconds 600 --keep engine")
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r tests/fuzz/requirements.txt
	@$(BIN)/python -m tests.fuzz.run $(FUZZ)

clean: ## remove what the targets made
	@rm -rf $(VENV) $(DOCS) dist build .mypy_cache .ruff_cache .pytest_cache
