# Every target sets up .venv by itself. PYTHON=... picks another interpreter (3.11 is what the lock was made with).
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test lab export bench clean

demo: .venv/ready   ## load the embedded checkpoint, continue a sentence, prove parity
	$(BIN)/python -m benchmarks.demo

test: .venv/ready   ## export in sync, every notebook compared with its stored outputs, pytest
	$(BIN)/ruff check .
	$(BIN)/python -m tests.run_notebooks
	$(BIN)/python -m pytest

lab: .venv/ready   ## open the notebooks
	$(BIN)/jupyter lab notebooks/00_tour.ipynb

export: .venv/ready   ## write the package from the notebooks
	$(BIN)/nbdev-export

bench: .venv/ready   ## measure, side by side with peers
	$(BIN)/python -m benchmarks.startup

# The lock pins what the stored outputs were made with; the project itself is installed in place.
.venv/ready: requirements.lock pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	touch $@

clean:
	rm -rf .venv build *.egg-info
