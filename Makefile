# Everything runs in .venv, made here with the exact versions of constraints.txt.
PYTHON ?= python3
BIN := .venv/bin
export OMP_NUM_THREADS ?= 1

.PHONY: install gl demo test suite lint style types docs docs-test docs-look release-check bench baselines clean

install: .venv/installed

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[train,can,serial,lerobot,hdf5,ros,ulog,scale,dev]'
	$(MAKE) --no-print-directory gl
	touch $@

# Software GL for cameras, where it is missing and this user may install it; without it the ray renderer draws.
gl:
	@if ! ldconfig -p 2>/dev/null | grep -q libEGL.so.1 && command -v apt-get >/dev/null && [ "$$(id -u)" = 0 ]; then \
	  apt-get update -qq && apt-get install -y -qq --no-install-recommends libegl1 libgl1-mesa-dri >/dev/null \
	  || echo "EGL could not be installed; cameras will be drawn without GL (renderer=ray)."; fi

demo: install
	$(BIN)/terrafirma demo $(ARGS)

# The types are checked beside the tests: both cores have something to do all along.
test: style
	$(MAKE) --no-print-directory -j 2 types suite

# Compiled first: the hundred processes that tests start would each do it again where PYTHONDONTWRITEBYTECODE is set.
suite: install
	$(BIN)/python -m compileall -q robot sim policies transfer
	$(BIN)/python -m pytest --ignore=tests/benchmarks -n 2 --dist loadfile --no-loadscope-reorder $(ARGS)

lint: style types

style: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: install
	$(BIN)/mypy

# The pages, strictly, into build/docs/index.html; then nothing in them may ask another machine for anything.
docs: install
	$(BIN)/python -c "import mkdocstrings_handlers, material" 2>/dev/null \
	  || $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	$(BIN)/python tests/docs/offline.py build/docs

# Every command of README and docs, typed in an empty folder a page: PAGES="README.md docs/stress.md" for some.
docs-test: install
	$(BIN)/python tests/docs/run_pages.py $(PAGES)

# The pages in a headless Chromium at the width of a desk and of a telephone, where one is installed; pictures in runs/look.
docs-look: docs
	$(BIN)/python tests/docs/look.py build/docs $(PAGES)

# Wheel and sdist, installed into empty environments and used outside of this checkout.
release-check: install
	$(BIN)/python tests/docs/release.py $(ARGS)

bench: install
	$(BIN)/python -m pytest tests/benchmarks $(ARGS)
	test -z "$$TERRAFIRMA_REAL_LOGS" || $(BIN)/python tests/benchmarks/lofo_c1.py

baselines: install
	$(BIN)/python tests/benchmarks/baselines.py $(ARGS)

clean:
	rm -rf .venv build runs *.egg-info .pytest_cache .mypy_cache .ruff_cache
