# Two commands: `make demo` and `make test`. Each does its own set-up.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
READY = $(VENV)/.ready

.PHONY: demo test test-wheel lint schema clean

demo: $(READY)
	$(BIN)/fairguard demo demo

test: $(READY) lint
	$(BIN)/python -m pytest -n 2 --dist loadfile

# The same suite against the built wheel: PYTHONPATH comes before the editable checkout.
test-wheel: $(READY)
	rm -rf build/wheel && $(BIN)/python -m build --wheel --no-isolation --outdir build/wheel
	$(BIN)/python -m pip install -q --no-deps --target build/wheel/site build/wheel/*.whl
	PYTHONPATH=build/wheel/site $(BIN)/pytest -n 2 --dist loadfile

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# After a change of what a verdict holds.
schema: $(READY)
	$(BIN)/python -c "import json, pathlib; from fairguard.report.json import schema; \
		pathlib.Path('fairguard/report/verdict.schema.json').write_text(json.dumps(schema(), indent=2) + '\n')"

clean:
	rm -rf $(VENV) demo build dist

$(READY): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -c "import sys; sys.exit(sys.version_info < (3, 11))" || { rm -rf $(VENV); echo "fairguard needs Python 3.11 or later: make ... PYTHON=python3.12" >&2; exit 2; }
	$(BIN)/python -m pip install -q --upgrade pip
	$(BIN)/python -m pip install -q -c constraints.txt -e ".[test]"
	touch $(READY)
