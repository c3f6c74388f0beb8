# Everything runs in .venv, made here with the exact versions of constraints.txt.
PYTHON ?= python3
BIN := .venv/bin
export OMP_NUM_THREADS ?= 1

.PHONY: install demo test lint bench baselines clean

install: .venv/installed

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[train,dev]'
	touch $@

demo: install
	$(BIN)/terrafirma demo $(ARGS)

test: lint
	$(BIN)/python -m pytest --ignore=tests/benchmarks $(ARGS)

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: install
	$(BIN)/python -m pytest tests/benchmarks $(ARGS)
	test -z "$$TERRAFIRMA_REAL_LOGS" || $(BIN)/python tests/benchmarks/lofo_c1.py

baselines: install
	$(BIN)/python tests/benchmarks/baselines.py $(ARGS)

clean:
	rm -rf .venv build runs *.egg-info .pytest_cache .mypy_cache .ruff_cache
