# Two commands a newcomer needs:  make screen   make test
# Each sets up its own virtual environment, once, and does nothing twice.

PYTHON ?= python3
WORKERS ?= 2
NEUTRAL = tests/models tests/test_losses.py tests/test_weights.py

.PHONY: screen test lint format clean

## screen the sample images with the shipped bundle, on the light environment (no TensorFlow), and open the results
screen: .venv-edge/ready
	@.venv-edge/bin/python -m edge_app screen samples --out results || test $$? -eq 1  # 1: some samples are broken on purpose
	@.venv-edge/bin/python -m webbrowser -t "file://$(CURDIR)/results/report.html" >/dev/null 2>&1 || true
	@echo "results page: $(CURDIR)/results/report.html"

## all tests: everything on TensorFlow, then the backend-neutral parts on PyTorch and JAX
test: .venv/ready
	.venv/bin/python -m pytest -n $(WORKERS) tests
	KERAS_BACKEND=torch .venv/bin/python -m pytest -n $(WORKERS) $(NEUTRAL)
	KERAS_BACKEND=jax .venv/bin/python -m pytest -n $(WORKERS) $(NEUTRAL)

## lint, formatting, types
lint: .venv/ready
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/mypy --strict --follow-imports=silent keras_realmnet/screening keras_realmnet/command_line.py keras_realmnet/errors.py edge_app

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

.venv/ready: requirements.txt requirements-edge.txt pyproject.toml
	$(PYTHON) -m venv --clear .venv
	.venv/bin/pip install --disable-pip-version-check -q -r requirements.txt
	.venv/bin/pip install --disable-pip-version-check -q --no-deps -e .
	@touch $@
