# make demo: the built-in sequence, to its result. make test: linters, types, layers, tests. make bench: speed and memory.
# make test-timm: the tests of timm's networks, in an environment with torchvision, 6 GB.
# make soak: ten minutes of training, killing and resuming; make soak SOAK= takes as long as it takes to kill every
# combination 20 times.
# make bench-gpu: what a GPU does, into docs/gpu.md.
# make docs: the site.
PYTHON ?= python3
VENV := .venv
VENV_TIMM := .venv-timm
BIN := $(VENV)/bin
SOAK ?= --minutes 10

.PHONY: demo test test-timm bench bench-gpu soak docs clean

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --disable-pip-version-check -q -c constraints.txt -e .
	touch $@

$(VENV)/installed-dev: $(VENV)/installed
	$(BIN)/pip install --disable-pip-version-check -q -c constraints.txt -e '.[dev]'
	touch $@

demo: $(VENV)/installed
	$(BIN)/muhdi demo

# The two processes of pytest take neighbours: what a file sets up is set up once.
test: $(VENV)/installed-dev
	$(BIN)/ruff format --check muhdi tests benchmarks
	$(BIN)/ruff check muhdi tests benchmarks
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist worksteal

# timm imports torchvision, which has to be of torch's release and build.
$(VENV_TIMM)/installed: pyproject.toml
	$(PYTHON) -m venv $(VENV_TIMM)
	$(VENV_TIMM)/bin/pip install --disable-pip-version-check -q torch==2.14.1 torchvision==0.29.1 -e '.[onnx,timm]' pytest hypothesis
	touch $@

test-timm: $(VENV_TIMM)/installed
	OMP_NUM_THREADS=1 $(VENV_TIMM)/bin/pytest tests/timm

bench: $(VENV)/installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.performance --machine --precision
	$(BIN)/python -m benchmarks.iteration --json benchmarks/measured/iteration.json
	$(BIN)/python -m benchmarks.iteration --rounds 1 --versions bf16 compiled --json benchmarks/measured/compiled.json
	$(BIN)/python -m benchmarks.segformer --json benchmarks/measured/segformer.json
	$(BIN)/python -m benchmarks.data --json benchmarks/measured/data.json
	$(BIN)/python -m benchmarks.shards --json benchmarks/measured/shards.json
	$(BIN)/python -m benchmarks.crops --json benchmarks/measured/crops.json
	$(BIN)/python -m benchmarks.rare_classes --json benchmarks/measured/rare_classes.json
	$(BIN)/python -m benchmarks.masked --json benchmarks/measured/masked.json
	for name in small efficientnet_lite0; do $(BIN)/python -m benchmarks.retention_cost --backbone $$name \
	  --json benchmarks/measured/retention_cost_$$name.json || exit 1; done
	$(BIN)/python -m benchmarks.evaluation --json benchmarks/measured/evaluation.json
	$(BIN)/python -m benchmarks.windows --json benchmarks/measured/windows.json
	$(BIN)/python -m benchmarks.growth --json benchmarks/measured/growth.json
	$(BIN)/python -m benchmarks.performance

bench-gpu: $(VENV)/installed-dev
	$(BIN)/python -m benchmarks.gpu

soak: $(VENV)/installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.soak $(SOAK)

docs: $(VENV)/installed
	$(BIN)/pip install --disable-pip-version-check -q -c constraints.txt -e '.[docs]'
	$(BIN)/mkdocs build --strict

clean:
	rm -rf $(VENV) $(VENV_TIMM) build *.egg-info .mypy_cache .ruff_cache .pytest_cache
