# Every target sets up .venv by itself, with what requirements.lock pins. PYTHON=... picks another interpreter.
PYTHON ?= python3
BIN := .venv/$(if $(filter Windows_NT,$(OS)),Scripts,bin)
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --constraint requirements.lock
BENCHMARKS := $(filter-out demo,$(patsubst benchmarks/%.py,%,$(wildcard benchmarks/*.py)))

CORE := $(filter-out __init__ __main__,$(patsubst minigpt/%.py,%,$(wildcard minigpt/*.py)))

.PHONY: help demo test official lab docs export bench lock proof clean

help:   ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' Makefile

demo: .venv/ready   ## load the embedded checkpoint, continue a sentence, prove parity
	$(BIN)/python -m benchmarks.demo

test: .venv/ready   ## export in sync, every notebook compared with its stored outputs, pytest
	$(BIN)/ruff check .
	$(BIN)/python -m tests.run_notebooks
	$(BIN)/python -m pytest --numprocesses auto

official: .venv/ready   ## with a network: download OpenAI's weights, compare with what is published
	$(BIN)/python -m minigpt download openai-community/openai-gpt
	$(BIN)/python -m tests.run_notebooks official_weights

lab: .venv/ready   ## open the notebooks
	$(BIN)/jupyter lab --ServerApp.root_dir=. notebooks/00_tour.ipynb

docs: .venv/ready   ## write the API reference from the docstrings: build/docs/index.html
	$(BIN)/pdoc --docformat google --output-directory build/docs minigpt minigpt.hf minigpt.fast minigpt.training \
		$(CORE:%=minigpt.%)

export: .venv/ready   ## write the package from the notebooks
	$(BIN)/nbdev-export

bench: $(if $(NAME),.venv/ready)   ## measure, side by side with peers: make bench NAME=startup
	$(if $(NAME),$(BIN)/python -m benchmarks.$(NAME),$(error Choose one with NAME=...: $(BENCHMARKS)))

lock: .venv   ## pin what pyproject.toml asks for, for every platform and Python
	$(PIP) uv
	$(BIN)/uv pip compile --quiet --no-config --universal --python-version 3.11 --all-extras \
		--no-annotate --custom-compile-command "make lock" --output-file requirements.lock pyproject.toml

proof:   ## install on this machine as if it were new, from the public index alone (several GB)
	$(PYTHON) -m tests.fresh_machine

.venv/ready: requirements.lock pyproject.toml | .venv
	$(PIP) --editable '.[original,train,dev]'
	touch $@

.venv:
	@$(PYTHON) -c "import sys; sys.version_info >= (3, 11) or sys.exit( \
		'minigpt needs Python 3.11 or later; $(PYTHON) is ' + sys.version.split()[0] + '. Pass another: make PYTHON=...')"
	@$(PYTHON) -c "import ensurepip, venv" 2> /dev/null || \
		{ echo "$(PYTHON) cannot make environments. On Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv .venv

clean:   ## remove the environment and what was built
	rm -rf .venv build *.egg-info
