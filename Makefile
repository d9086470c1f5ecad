# Mien's commands; `make help` lists them.  All share one Python environment in .venv.

PYTHON := .venv/bin/python
INSTALLED := .venv/.installed
# More than half of the suite's time is spent waiting for processes, so two run at once.  All tests of a file run in one
# process, so that fixtures are made once, and files keep their order, so that files with few long tests do not run last.
SIDE_BY_SIDE := --numprocesses 2 --dist loadfile --no-loadscope-reorder

# S3 on this machine, for `test-hosts` alone: it brings more packages than it is worth having in every environment.
MOTO := 5.2.5

# Version of a retrained bundle; never that of a released one.
VERSION ?= $(shell date +%Y-%m-%d)

.DEFAULT_GOAL := help
.PHONY: help demo run test test-long test-gpu test-docker test-hosts fuzz fuzz-api soak lint train-default environment redis

help: ## show this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14

demo: $(INSTALLED) redis ## post a video to the whole service, print its labels; VIDEO=path for your own
	$(PYTHON) -m worker.demo $(if $(VIDEO),--video "$(VIDEO)")

run: $(INSTALLED) redis ## keep the service running at http://127.0.0.1:8000
	$(PYTHON) -m worker.demo --keep

test: lint ## run every check and the test suite without the long tests
	MIEN_REDIS_URL= .make/find_redis.sh
	.make/find_chromium.sh
	$(PYTHON) -m pytest $(SIDE_BY_SIDE)

test-long: $(INSTALLED) ## run the tests that take minutes, which `make test` leaves out
	MIEN_REDIS_URL= .make/find_redis.sh
	$(PYTHON) -m pytest -m long $(SIDE_BY_SIDE)

test-gpu: $(INSTALLED) ## on a GPU: its tests, then the speed of ensemble and pipeline; writes a results file (8 minutes)
	$(PYTHON) -m tests.bench.gpu

test-docker: $(INSTALLED) ## build the images, run docker-compose.yml, label a video, kill and stop its services
	$(PYTHON) -m pytest -m docker tests/docker

test-hosts: $(INSTALLED) ## as root: cut several hosts (network namespaces) off from each other for half an hour; prints figures
	MIEN_REDIS_URL= .make/find_redis.sh
	$(PYTHON) -m pip install --quiet --disable-pip-version-check -c constraints.txt s3fs 'moto[server]==$(MOTO)'
	$(PYTHON) -m pytest -s -m hosts tests/hosts

fuzz: $(INSTALLED) ## fuzz the readers of manifests, chunks, archives, videos, photographs and options for ten minutes each, or MINUTES
	$(PYTHON) tests/bench/fuzz.py --minutes $(or $(MINUTES),10)

fuzz-api: $(INSTALLED) ## run schemathesis against the whole service for five minutes, or FUZZ_SECONDS; FUZZ_SEED sets the seed
	MIEN_REDIS_URL= .make/find_redis.sh
	FUZZ_SECONDS=$(or $(FUZZ_SECONDS),300) $(PYTHON) -m pytest -s tests/e2e/test_fuzz.py

soak: $(INSTALLED) ## run jobs for 15 minutes with cancels, deletes, killed workers and outages of Redis; prints JSON
	MIEN_REDIS_URL= .make/find_redis.sh
	$(PYTHON) -m tests.bench.soak

lint: $(INSTALLED) ## run the linters, the type checker and the import law
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy app worker model_store mien tests
	.venv/bin/lint-imports

# Static CNN, temporal heads, fusion, manifest, model card: three quarters of an hour on two cores.  A restart resumes it.
# The teacher's package is downloaded once, read as data and checked by its digest; TEACHER=file names a local copy.
TEACHER ?= runs/default/vladmandic-face-api-1.7.15.tgz

runs/default/vladmandic-face-api-1.7.15.tgz:
	mkdir -p $(@D)
	npm pack --silent --pack-destination $(@D) @vladmandic/face-api@1.7.15

train-default: $(INSTALLED) $(TEACHER) ## retrain the default bundle; DATA=folder of stills and portraits, TEACHER=package
	@test -n "$(DATA)" || { echo "usage: make train-default DATA=folder with *train*.npz, *valid*.npz and portraits"; exit 2; }
	$(PYTHON) -m worker train --recipe default --layout stills --data "$(DATA)" \
		--backbone model_store/backbones/expressions.safetensors --teacher "$(TEACHER)" \
		--out model_store/bundles/default \
		--run-dir runs/default --resume --name default --version "$(VERSION)"

environment: $(INSTALLED) ## create .venv

redis: # tests and demo start their own Redis
	@.make/find_redis.sh

# Updated when the requirements change.
$(INSTALLED): pyproject.toml constraints.txt .make/make_environment.sh
	.make/make_environment.sh
	@touch $@
