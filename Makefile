# Two commands on a fresh machine: `make demo` and `make test`. Both need Python 3.11, 3.12 or 3.13, make
# and a package index; uv is brought along when there is none. Written for make 3.81 and the tools of BSD,
# which a Mac has.
SHELL := /bin/sh
# The first of these that runs: of 3.11 the lock has packages for every Linux, of the others only for a
# glibc of 2.39 or newer.
PYTHON ?= $(shell for python in python3.11 python3.13 python3.12 python3; do \
  $$python -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null \
  && { echo $$python; break; }; done)
UV := $(shell command -v uv 2>/dev/null || echo .tools/bin/uv)
# Without compiled bytecode every start recompiles TensorFlow and TFX: 15 s instead of 8.
export UV_COMPILE_BYTECODE = 1
# Images of containers often set it; then each of the processes that the tests start would compile
# imgpipe again: 0.8 s instead of 0.5.
unexport PYTHONDONTWRITEBYTECODE
export UV_PYTHON_DOWNLOADS = never
# The certificates of the system, as pip uses them: a package index may be behind a proxy.
export UV_SYSTEM_CERTS = 1
RUN := .venv/bin
DIST := dist
# One process for each core, at most four, and each takes whole files. In the order of the folders
# the long runs of tests/e2e begin early; in the order of their number of tests they would be last.
PARALLEL := -n logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder

.PHONY: demo test test-all test-engines test-cluster test-debian13 lint types types-here types-mac fuzz docs requirements wheel bill clean

demo: .venv/.ready
	@$(RUN)/imgpipe demo
	@printf '\nThe command imgpipe in this terminal:\n  . .venv/bin/activate\n'

test: .venv/.ready
	$(RUN)/pytest $(PARALLEL) -m "not slow and not engines and not cluster"

test-all: .venv/.ready
	$(RUN)/pytest -m "not engines and not cluster"

# Clusters of Flink and Spark on this machine. It needs Java 17 and Maven.
test-engines: .venv/.ready .engines/.ready
	$(RUN)/pytest -m engines tests/engines

# Kubernetes and Kubeflow Pipelines in a network namespace of this machine, in .cluster. It needs root,
# Go, git and Debian 12, whose packages it installs; its programs are built once. The pods have Debian 13.
test-cluster: .venv/.ready
	tests/cluster/build.sh
	$(RUN)/pytest -m cluster -s --durations=0 tests/cluster

# The wheel with plain pip under Python 3.13, in a Debian 13 of its own in .debian13, which is kept. It
# needs root, debootstrap and a mirror of Debian. The image of the Dockerfile needs buildah besides.
test-debian13: .venv/.ready
	$(UV) build --wheel --out-dir $(DIST)
	tests/debian13/enter.sh /project/tests/debian13/check.sh
	$(RUN)/pytest -rs tests/packaging/test_dockerfile.py

lint: .venv/.ready
	$(RUN)/ruff check .
	$(RUN)/ruff format --check .

# Of a Mac only the types can be checked here. `make --jobs types` checks both at the same time.
types: types-here types-mac

types-here: .venv/.ready
	$(RUN)/mypy

# With a cache of its own, because each platform would overwrite the other's.
types-mac: .venv/.ready
	$(RUN)/mypy --platform darwin --cache-dir .mypy_cache/darwin

# A minute for each reader of foreign bytes; what is answered in a new way is kept.
fuzz: .venv/.ready
	$(RUN)/python -m tests.fuzz

# The pages of docs/reference, and the documentation site in site/, which opens from the disk. Neither
# needs the network.
docs: .venv/.ready
	$(RUN)/python docs/hooks/reference.py
	NO_MKDOCS_2_WARNING=1 $(RUN)/mkdocs build

# The locked packages for pip, with their hashes: see docs/install.md.
requirements: $(if $(filter .tools/bin/uv,$(UV)),.tools/bin/uv)
	$(UV) export --quiet --frozen --no-dev --no-emit-project --no-annotate --no-header -o $(DIST)/requirements.txt

# The distributions, and what a distributor asks for: a bill of materials (bill).
wheel: .venv/.ready bill
	$(UV) build --out-dir $(DIST)
	$(UV) build --wheel --out-dir $(DIST) packaging/client

bill: .venv/.ready requirements
	$(UV) export --quiet --frozen --no-dev --format cyclonedx1.5 --preview-features sbom-export -o $(DIST)/imgpipe.cdx.json

# `uv sync` would list 300 packages; `uv run` shows the progress of the downloads and their number.
.venv/.ready: $(if $(PYTHON),,no-python) pyproject.toml uv.lock $(if $(filter .tools/bin/uv,$(UV)),.tools/bin/uv)
	@printf 'Installing into .venv: about 1.1 GB to download and 4 GB on the disk.\n'
	@UV_COMPILE_BYTECODE=0 $(UV) run --exact --frozen --python $(PYTHON) true
	@printf 'Compiling the packages, so that every start is faster. This takes about a minute.\n'
	@$(UV) sync --frozen --quiet --python $(PYTHON)
	@touch $@

# Flink and Spark from their Python packages, which hold the Java libraries, and Beam's job servers.
# They are not in the lock, because nothing in the project imports them.
.engines/.ready: $(wildcard tests/engines/job_servers/*/pom.xml) $(if $(filter .tools/bin/uv,$(UV)),.tools/bin/uv)
	rm -rf .engines && mkdir -p .engines
	$(UV) pip install --quiet --no-deps --python $(PYTHON) --target .engines/python \
	  apache-flink-libraries==1.19.3 pyspark==3.5.9
	for engine in flink spark; do \
	  mvn --batch-mode --quiet -f tests/engines/job_servers/$$engine/pom.xml package \
	    -DoutputFolder=$(CURDIR)/.engines || exit 1; done
	@touch $@

.PHONY: no-python
no-python:
	@printf 'Found no Python 3.11, 3.12 or 3.13. Install one of them, or name it: make demo PYTHON=/opt/bin/python3.13\n' >&2
	@exit 1

# A virtual environment of its own: the system's pip may be externally managed, or have no venv.
.tools/bin/uv:
	@$(PYTHON) -m venv .tools 2>/dev/null && .tools/bin/python -m pip install --quiet uv \
	  || { rm -rf .tools && $(PYTHON) -m pip install --quiet --target .tools uv; }

clean:
	rm -rf .venv .tools .engines .cluster .debian13 dist build site imgpipe-demo
