# Two commands a newcomer needs:  make screen   make test
# Each sets up its own virtual environment, once, and does nothing twice.

PYTHON ?= python3
WORKERS ?= 2
# What PyTorch and JAX repeat: all numerics, and of each kind of network one; TensorFlow runs every network.
NEUTRAL = -m "not long and not tensorflow_only" tests/losses tests/models tests/test_keras_compat.py tests/test_weights.py

# Some machines ask Python to keep no compiled modules: each program that a test starts would compile ours again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: screen test soak lint style types strict format clean

## screen the sample images with every shipped bundle, on the light environment (no TensorFlow), and open the results
screen: .venv-edge/ready
	@.venv-edge/bin/python -m edge_app screen samples --out results || test $$? -eq 1  # 1: some samples are broken on purpose
	@.venv-edge/bin/python -m webbrowser -t "file://$(CURDIR)/results/report.html" >/dev/null 2>&1 || true
	@echo "results page: $(CURDIR)/results/report.html"

## all tests: everything on TensorFlow, then the backend-neutral parts on PyTorch and JAX
# Each worker computes in one thread: PyTorch's wait for each other most of the time where the cores are busy.
# JAX compiles each step once more, for networks that then run once: with few optimizations, in two thirds of the time.
test: export OMP_NUM_THREADS = 1
test: .venv/ready
	.venv/bin/python -m pytest -n $(WORKERS) --dist worksteal tests
	KERAS_BACKEND=torch .venv/bin/python -m pytest -n $(WORKERS) --dist worksteal $(NEUTRAL)
	KERAS_BACKEND=jax JAX_DISABLE_MOST_OPTIMIZATIONS=true .venv/bin/python -m pytest -n $(WORKERS) --dist worksteal $(NEUTRAL)

## what is long: the tests on several devices and others, then the proofs of docs/proofs.md at their full counts: hours
soak: .venv/ready
	.venv/bin/python -m pytest -m long tests
	.venv/bin/python -m tests.proofs.files.fuzz --count 10000
	.venv/bin/python -m tests.proofs.files.frames --count 10000
	.venv/bin/python -m tests.proofs.dicom.idempotency --count 1000
	.venv/bin/python -m tests.proofs.dicom.conformance --count 10
	.venv/bin/python -m tests.proofs.dicom.peer_faults --count 20
	.venv/bin/python -m tests.proofs.box.crash --count 500
	.venv/bin/python -m tests.proofs.dicom.foreign_classes
	.venv/bin/python -m tests.proofs.box.durability
	.venv/bin/python -m tests.proofs.box.disk_full
	.venv/bin/python -m tests.proofs.box.folder
	.venv/bin/python -m tests.proofs.box.privacy
	.venv/bin/python -m tests.proofs.box.slow_requests
	.venv/bin/python -m tests.proofs.box.restore
	.venv/bin/python -m tests.proofs.dicom.identity
	.venv/bin/python -m tests.proofs.box.soak
	.venv/bin/python -m tests.proofs.measured.throughput
	.venv/bin/python -m tests.proofs.measured.bundles

## lint, formatting, types; with -j2 at once
lint: style types strict

style: .venv/ready
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .

types: .venv/ready
	.venv/bin/mypy

# With a cache of its own: what mypy knows under other options it would look at again.
strict: .venv/ready
	.venv/bin/mypy --strict --cache-dir .mypy_cache/strict --follow-imports=silent keras_realmnet/screening keras_realmnet/tasks keras_realmnet/command_line.py keras_realmnet/errors.py edge_app

format: .venv/ready
	.venv/bin/ruff check --fix .
	.venv/bin/ruff format .

clean:
	rm -rf .venv .venv-edge results

.venv-edge/ready: requirements-edge.txt pyproject.toml
	$(PYTHON) -m venv --clear .venv-edge
	.venv-edge/bin/pip install --disable-pip-version-check -q -r requirements-edge.txt
	.venv-edge/bin/pip install --disable-pip-version-check -q --no-deps -e .
	@touch $@

.venv/ready: requirements.txt requirements-edge.txt requirements-imagenet.txt pyproject.toml
	$(PYTHON) -m venv --clear .venv
	.venv/bin/pip install --disable-pip-version-check -q -r requirements.txt
	.venv/bin/pip install --disable-pip-version-check -q --no-deps -r requirements-imagenet.txt
	.venv/bin/pip install --disable-pip-version-check -q --no-deps -e .
	@touch $@
