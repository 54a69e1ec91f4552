# Two commands do everything on a fresh machine with Python 3.11+, a C++ compiler and pip:
#   make demo   environment, install, the quickstart study, its report
#   make case-study-small   the small case study, its claims and its report, a quarter of an hour
#   make runtimes   more runtimes: ExecuTorch with torchao, LiteRT with its converter, NNCF
#   make test   environment, install, ruff, mypy, import rules, tests
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
STARTED := $(shell date +%s)
SECONDS_SO_FAR = $$(( $$(date +%s) - $(STARTED) )) s
CONVERTER := .venv/convert/bin/python
OUT ?= out/quickstart
# boto3 of the very version of botocore that s3fs brings: left to itself, pip tries dozens of them.
CLUSTER = $(BIN)/python -m pip install --quiet --progress-bar off -e '.[cluster]' && \
  $(BIN)/python -m pip install --quiet --progress-bar off 'moto[server]>=5' \
  "boto3==$$($(BIN)/python -c 'import botocore; print(botocore.__version__)')"

.PHONY: demo case-study-small test check cluster test-cluster test-cluster-slow test-hosts test-kernels runtimes test-runtimes test-slow install

$(STAMP): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --progress-bar off -e '.[dev]'
	touch $@
	@echo "Installed in $(SECONDS_SO_FAR)."

install: $(STAMP)

demo: $(STAMP)
	$(BIN)/dlas run studies/quickstart.yaml --out $(OUT)
	$(BIN)/dlas report $(OUT) -o $(OUT)/report.html
	@echo "Open $(OUT)/report.html in a browser. All of it took $(SECONDS_SO_FAR)."

case-study-small: CASE ?= out/case-study-small
case-study-small: $(STAMP)
	$(BIN)/dlas run studies/dlas-2024-small.yaml --out $(CASE) --claims studies/claims/dlas-2024.yaml
	$(BIN)/dlas check studies/claims/dlas-2024.yaml $(CASE) -o $(CASE)/verdicts.md
	$(BIN)/dlas report $(CASE) -o $(CASE)/report.html

check: $(STAMP)
	$(BIN)/ruff format --check src tests benchmarks
	$(BIN)/ruff check src tests benchmarks
	$(BIN)/mypy
	$(BIN)/lint-imports

test: check
	$(BIN)/python -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder

test-kernels: $(STAMP)
	$(BIN)/python -m pytest -q -n 2 -o timeout=1800 -m "kernels_full or not kernels_full" tests/kernels

test-hosts: $(STAMP)
	$(BIN)/python tests/hosts/masks.py avx2
	$(BIN)/python tests/hosts/masks.py avx512

cluster: $(STAMP)
	$(CLUSTER)

# Needs Debian's package postgresql (or PostgreSQL's programs in PATH); starts its own servers.
test-cluster: cluster
	$(BIN)/python -m pytest -q -m "cluster and not slow" tests/cluster

# 200 steps of a real study, each fault alone and each two together, and a table of what they cost.
# An hour or more; in slices by K=alone, K=database, K=killed-stopped, ...
test-cluster-slow: cluster
	$(BIN)/python -m pytest -q -o timeout=900 -m "cluster and slow" -k "$(K)" tests/cluster

# Runtimes beside those of `make install`; LiteRT's converter does not share dlas's requirements.
runtimes: $(STAMP)
	$(BIN)/python -m pip install --quiet --progress-bar off -e '.[dev,nncf,litert,executorch]'
	test -x $(CONVERTER) || $(PYTHON) -m venv .venv/convert
	$(CONVERTER) -m pip install --quiet --progress-bar off litert-torch

test-runtimes: runtimes
	DLAS_TEST_LITERT_CONVERTER=$(CURDIR)/$(CONVERTER) $(BIN)/python -m pytest -q \
	  tests/layers/software tests/layers/optimization tests/testing tests/run/plan tests/deploy/test_standalone.py

test-slow: $(STAMP)
	$(BIN)/python -m pytest -q -m "slow and not cluster"
