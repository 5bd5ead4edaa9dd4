# Everything runs from .venv, made here from pinned constraints; no model hub is needed.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: install check test demo bench

# pip, not uv or poetry: it takes the CPU build of PyTorch where one is offered. fastembed, which tests load exports with, asks
# for huggingface-hub below 2 but works with ours: it comes without dependencies, and what it lacks then beside it.
.venv/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(0 if (3, 10) <= sys.version_info[:2] <= (3, 13) else "secondstage needs Python 3.10 to 3.13, this is %s: make PYTHON=python3.12 ..." % sys.version.split()[0])'
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch==2.13.0 --editable '.[demo,dev,lora,milvus,onnx,openvino,server,tensorboard]' --config-settings editable_mode=strict
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --no-deps fastembed loguru mmh3 py-rust-stemmers
	@touch $@

# Strict editable installs link file by file, so that type checkers resolve everything: new files need the install again (seconds).
install: .venv/installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --no-deps --no-build-isolation --editable . --config-settings editable_mode=strict

check: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pyright --warnings

test: install
	$(BIN)/python -m pytest --numprocesses 2 --dist worksteal

demo: install
	@$(BIN)/secondstage demo

# Each ends in one JSON line; bench/fusion.py wants the folders of finished runs.
bench: install
	$(BIN)/python -m bench.step
