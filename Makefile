# Every target makes its own virtual environment in .venv first; it takes Python 3.10 to 3.13, a C++ compiler
# and make. TORCH chooses another CPU build of torch: make test TORCH=torch==2.9.0+cpu

PYTHON ?= python3
TORCH ?= torch==2.13.0+cpu
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# Vendors' plugins lie beside the environment, not in it: `import torch` would import them.
PLUGINS := $(VENV)/plugins
# So does Triton, which torch looks for: without it torch is as in most environments without a GPU. Other releases
# (TRITON_WHEEL=triton==3.6.0) get folders of their own.
TRITON_TESTED := triton==3.9.0
TRITON_WHEEL ?= $(TRITON_TESTED)
TRITON := $(VENV)/$(subst ==,-,$(patsubst $(TRITON_TESTED),triton,$(TRITON_WHEEL)))
TORCH_NPU ?= torch_npu==2.13.0
# Every operator of the emulated CANN against the CPU, in every dtype: left to make test-full.
SLOW_ASCEND := test_operators.py test_variants.py
CXX_SOURCES = $(shell find heitu tests -name '*.cpp' -o -name '*.c' -o -name '*.h')

.PHONY: demo test test-ascend test-triton test-full ascend matrix estimates sanitize headers pairings bench lint clean

demo: $(STAMP)
	$(BIN)/heitu run examples/train_gpt.py --out examples/out --steps 150

test: lint
	$(BIN)/python -m pytest tests/unit
	$(BIN)/heitu run -m pytest tests/device
	$(BIN)/python -m pytest tests/rehearsal
	$(BIN)/python -m pytest -n 2 --dist loadgroup tests/backings
	@$(MAKE) --no-print-directory test-triton
	@$(MAKE) --no-print-directory test-ascend

# The real torch_npu over the emulated CANN; the wheel is 44 MB, and where it is not to be had the tests are skipped.
test-ascend: $(STAMP) $(PLUGINS)
	PYTHONPATH=$(CURDIR)/$(PLUGINS) TORCH_DEVICE_BACKEND_AUTOLOAD=0 $(BIN)/python -m pytest -n 2 tests/ascend \
	    $(SLOW_ASCEND:%=--ignore=tests/ascend/emulator/%)

# The stock triton wheel on the CPU and on the cuda device; where it is not to be had the tests are skipped.
test-triton: $(STAMP) $(TRITON)
	PYTHONPATH=$(CURDIR)/$(TRITON) $(BIN)/python -m pytest -n 2 tests/triton

# What takes long: other people's models, and PyTorch's whole operator database (writes docs/conformance.*).
test-full: test sanitize
	$(BIN)/heitu run -m pytest tests/full
	$(BIN)/python -m tests.full.opinfo_sweep --fresh
	PYTHONPATH=$(CURDIR)/$(PLUGINS) TORCH_DEVICE_BACKEND_AUTOLOAD=0 \
	    $(BIN)/python -m pytest $(SLOW_ASCEND:%=tests/ascend/emulator/%)
	$(MAKE) ascend

# Programs written for cuda through Heitu, against the same for npu; takes transformers.
ascend: $(STAMP) $(PLUGINS)
	$(BIN)/python -m pip install --quiet transformers
	PYTHONPATH=$(CURDIR)/$(PLUGINS) TORCH_DEVICE_BACKEND_AUTOLOAD=0 \
	    $(BIN)/python -m tests.ascend.compare --into docs/ascend.md

# What the layer costs: an operator, and a training step against plain CPU. On an idle machine.
bench: $(STAMP) $(PLUGINS) $(TRITON)
	$(BIN)/heitu run bench/overhead.py
	$(BIN)/heitu run bench/gpt_step.py
	$(BIN)/heitu run bench/narrow_products.py
	$(BIN)/python bench/rehearsal.py
	PYTHONPATH=$(CURDIR)/$(PLUGINS) $(BIN)/python bench/forwarding.py
	PYTHONPATH=$(CURDIR)/$(TRITON) $(BIN)/python bench/triton_kernels.py
	PYTHONPATH=$(CURDIR)/$(TRITON) $(BIN)/python bench/triton_compile.py
	PYTHONPATH=$(CURDIR)/$(TRITON) $(BIN)/heitu run bench/compiled_step.py

# Other people's models on every chip; it takes transformers, and half an hour on two cores.
matrix: $(STAMP)
	$(BIN)/python -m pip install --quiet transformers
	$(BIN)/heitu matrix examples/matrix/programs.toml --out docs/matrix.md

# The estimates of reports against what others have measured and published.
estimates: $(STAMP)
	$(BIN)/python bench/estimates/compare.py --out docs/estimates.md

# The device's tests on a core with AddressSanitizer and UndefinedBehaviorSanitizer; takes gcc.
sanitize: $(STAMP)
	$(BIN)/python -m tests.full.sanitize

# Whether all libraries compile against the other releases of torch, whose headers are downloaded (0.7 GB).
headers: $(STAMP)
	$(BIN)/python -m tests.full.headers

# What the releases of torch_npu ask of CANN, and what the emulator has of it; the wheels are 0.4 GB.
pairings: $(STAMP)
	$(BIN)/python -m tests.full.pairings --into docs/ascend.md

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/clang-format --dry-run --Werror $(CXX_SOURCES)

$(TRITON): | $(STAMP)
	$(BIN)/python -m pip install --quiet --no-deps --target $@ '$(TRITON_WHEEL)' || mkdir -p $@

$(PLUGINS): | $(STAMP)
	$(BIN)/python -m pip install --quiet --no-deps --target $@ '$(TORCH_NPU)' pyyaml || mkdir -p $@

# Only torch itself comes from PyTorch's index; what it needs comes from the ordinary one.
# The stamp is the last thing written: an install that broke off is done again.
$(STAMP): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --no-deps '$(TORCH)' --extra-index-url $(TORCH_INDEX)
	$(BIN)/python -m pip install --quiet '$(TORCH)' --editable '.[test]'
	touch $@

clean:
	rm -rf build dist .mypy_cache .pytest_cache .ruff_cache
