# make help lists the targets. Variables: EPOCHS, SIMAM=on|off, SEED, DEVICE, ARCHIVE, JOBS, ARGS, PYTHON, PADDLE, VENV.

# The newest Python from 3.13 to 3.10, or one from uv.
PYTHON ?= sh scripts/python.sh
# VENV=active: the virtual or conda environment that is active.
VENV ?= .venv
ifeq ($(VENV),active)
override VENV := $(or $(VIRTUAL_ENV),$(CONDA_PREFIX))
ifeq ($(VENV),)
$(error VENV=active: no virtual or conda environment is active; activate one, or leave VENV out)
endif
endif
PADDLE ?= auto
PORT ?= 8040
RUNS ?= runs

# Real archives beside the checkout are used when they are there.
ifneq ($(wildcard ../shared/data),)
export SIMAM_ARCHIVES ?= $(abspath ../shared/data)
endif

READY = $(VENV)/.ready
# The CUDA libraries that setup gathered, where it installed them.
ifneq ($(wildcard $(VENV)/cuda),)
export LD_LIBRARY_PATH := $(abspath $(VENV)/cuda)$(if $(LD_LIBRARY_PATH),:$(LD_LIBRARY_PATH))
endif
PY = $(VENV)/bin/python

# One word for the shell, whatever spaces are in it; and a path that is there as one word, else as many as it is.
quoted = $(if $(1),'$(subst ','\'',$(1))')
paths = $(if $(and $(1),$(shell test -e $(call quoted,$(1)) && echo there)),$(call quoted,$(1)),$(1))

# SIMAM=off trains the other half of the pair.
SIMAM ?= on
ifeq ($(filter $(SIMAM),on off),)
$(error SIMAM=$(SIMAM): it is on or off)
endif
SUFFIX = $(if $(filter on,$(SIMAM)),_simam)
OPTIONS = $(if $(EPOCHS),-o train.epochs=$(EPOCHS)) $(if $(SEED),--seed $(SEED)) \
          $(if $(DEVICE),--device $(DEVICE)) $(if $(ARCHIVE),-o $(call quoted,data.archive=$(ARCHIVE))) $(ARGS)
# A target for each pair of configs: X.yaml and X_simam.yaml; see `config` for their names.
PAIRS = $(patsubst configs/%_simam.yaml,%,$(wildcard configs/*_simam.yaml))
EXPERIMENTS = $(subst _,-,$(patsubst cifar10_%,cifar_%,$(patsubst alexnet,cifar_alexnet,$(PAIRS))))

.DEFAULT_GOAL := help
.PHONY: help setup demo test coverage test-slow sanitize test-paddle26 $(EXPERIMENTS) \
        caltech-towernet-off cifar-alexnet-off \
        sweep-caltech-towernet sweep-cifar-alexnet \
        evaluate export publish predict curves attention robustness summary matrix keep report verify signal-propagation kill-test notebooks test-notebooks show-data data-caltech data-cifar visualdl gpu-check bench lock clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9%-]+:.*## / { printf "%-22s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

setup: $(READY)  ## create .venv and install the packages (PADDLE=cpu|gpu|cu126|cu129, WHEELS=folder, VENV=active); done by every target

$(READY): requirements.lock requirements-cpu.lock
	@$(PYTHON) scripts/setup_environment.py "$(VENV)" --paddle $(PADDLE) $(if $(WHEELS),--wheels "$(WHEELS)")

demo: $(READY)  ## train TowerNet without and with SimAM on the embedded data set (2 minutes)
	$(PY) scripts/demo.py $(if $(SEED),--seed $(SEED))

test: $(READY)  ## run the tests (under 10 minutes on 2 cores)
	$(PY) -m pytest -q -n auto --maxprocesses 4 $(ARGS)

coverage: $(READY)  ## the tests again, with the share of simam_repro's lines that they run (at least 92 %)
	$(PY) -m pytest -q -n auto --maxprocesses 4 --cov=simam_repro --cov-fail-under=92 --cov-report=term $(ARGS)

test-slow: $(READY)  ## run the tests that take long or need a browser (an hour)
	$(PY) -m pytest -q -n auto --maxprocesses 4 -m "slow or browser" --ignore tests/test_notebooks.py $(ARGS)

sanitize: $(READY)  ## run the tests of the compiled operators under AddressSanitizer and UBSan (needs g++; 5 minutes)
	SIMAM_REPRO_SANITIZE=1 ASAN_OPTIONS=detect_leaks=0:detect_odr_violation=0:alloc_dealloc_mismatch=0 UBSAN_OPTIONS=print_stacktrace=1 \
	  LD_LIBRARY_PATH="$$($(PY) -c 'import paddle; print(paddle.__path__[0])')/libs" \
	  LD_PRELOAD="$$(g++ -print-file-name=libasan.so) $$(g++ -print-file-name=libubsan.so)" \
	  $(PY) -m pytest -q -p no:cacheprovider -k "not build and not compiler and not load and not threads" \
	  tests/test_ops.py tests/test_ops_depthwise.py tests/test_ops_layers.py tests/test_ops_norm.py tests/test_ops_random.py \
	  tests/test_ops_second.py tests/test_simam.py $(ARGS)

test-paddle26: .venv-paddle26/.ready  ## run the tests under Paddle 2.6.2, the level of the CUDA wheel
	.venv-paddle26/bin/python -m pytest -q -n auto --maxprocesses 4 $(ARGS)

# The CUDA environment with the CPU wheel of the same version in the place of the CUDA one.
.venv-paddle26/.ready: requirements.lock
	@NEWEST_MINOR=12 $(PYTHON) scripts/setup_environment.py .venv-paddle26 --paddle 2.6-cpu $(if $(WHEELS),--wheels "$(WHEELS)")

# caltech-towernet -> configs/caltech_towernet[_simam].yaml; cifar-NAME -> cifar10_NAME, but for the original's own
# alexnet; faithful-NAME -> the same below configs/faithful/.
config = $(subst cifar10_alexnet,alexnet,$(subst cifar_,cifar10_,$(subst -,_,$(1))))$(2)
TRAIN = $(PY) scripts/train.py -c configs/$(1).yaml $(OPTIONS) $(if $(NPROC),--nproc $(NPROC))

caltech-towernet:     ## TowerNet with SimAM on Caltech101-16 (SIMAM=off, EPOCHS=2, SEED=1, DEVICE=cpu, NPROC=2, ARCHIVE=my.zip)
caltech-alexnet:      ## AlexNet likewise
caltech-resnet50:     ## ResNet50 likewise
caltech-vgg19:        ## VGG19 likewise
caltech-mobilenetv2:  ## MobileNetV2 likewise
demo-towernet:        ## TowerNet with SimAM on the embedded data set (same variables)
cifar-towernet:       ## TowerNet with SimAM on CIFAR-10 (same variables)
cifar-alexnet:        ## AlexNet likewise
cifar-resnet50:       ## ResNet50 likewise
cifar-vgg19:          ## VGG19 likewise
cifar-mobilenetv2:    ## MobileNetV2 likewise
cifar-resnet20:       ## ResNet-20 on CIFAR-10 by the SimAM paper's protocol
cifar-resnet56:       ## ResNet-56 likewise
cifar-resnet110:      ## ResNet-110 likewise
cifar-preresnet20:    ## PreResNet-20 likewise
cifar-preresnet56:    ## PreResNet-56 likewise
cifar-preresnet110:   ## PreResNet-110 likewise
cifar100-resnet20:    ## ResNet-20 on CIFAR-100 likewise
cifar100-resnet56:    ## ResNet-56 on CIFAR-100 likewise
cifar100-resnet110:   ## ResNet-110 on CIFAR-100 likewise
cifar100-preresnet20: ## PreResNet-20 on CIFAR-100 likewise
cifar100-preresnet56: ## PreResNet-56 on CIFAR-100 likewise
cifar100-preresnet110:## PreResNet-110 on CIFAR-100 likewise
$(EXPERIMENTS): $(READY)
	$(call TRAIN,$(call config,$@,$(SUFFIX)))

caltech-towernet-off:  ## TowerNet without SimAM on Caltech101-16
cifar-alexnet-off:     ## AlexNet without SimAM on CIFAR-10
caltech-towernet-off cifar-alexnet-off:
	@$(MAKE) --no-print-directory $(@:-off=) SIMAM=off

compare-%: $(READY)  ## compare-caltech-towernet, ...: train what is missing of both halves, compare them (scripts/compare.py: several seeds)
	$(call TRAIN,$(call config,$*)) --finish
	$(call TRAIN,$(call config,$*,_simam)) --finish
	$(PY) scripts/compare.py -c configs/$(call config,$*).yaml configs/$(call config,$*,_simam).yaml $(OPTIONS)

faithful-%: $(READY)  ## faithful-caltech-towernet, ...: the recipe as the original code ran it (configs/faithful/)
	$(call TRAIN,faithful/$(call config,$*,$(if $(wildcard configs/faithful/$(call config,$*,_simam).yaml),$(SUFFIX))))

# sweep-caltech-towernet-128px -> sweeps/caltech_towernet_128px.yaml
TRAIN_SWEEP = $(PY) scripts/sweep.py -c sweeps/$(subst -,_,$(1)).yaml $(if $(JOBS),--jobs $(JOBS)) $(ARGS)

sweep-caltech-towernet:  ## TowerNet without and with SimAM on Caltech101-16, 5 seeds each, then their comparison (JOBS=2)
sweep-cifar-alexnet:     ## AlexNet on CIFAR-10 likewise
sweep-caltech-towernet sweep-cifar-alexnet: $(READY)
	$(call TRAIN_SWEEP,$(@:sweep-%=%))

sweep-%: $(READY)  ## sweep-caltech-towernet-128px, ...: any file of sweeps/; what is complete is skipped
	$(call TRAIN_SWEEP,$*)

evaluate: $(READY)  ## measure a trained network (RUN=runs/NAME/seed0 or a checkpoint of it)
	$(PY) scripts/evaluate.py $(call quoted,$(RUN)) $(ARGS)

export: $(READY)  ## write a trained network as a program for Paddle's inference library (RUN=...)
	$(PY) scripts/export.py $(call quoted,$(RUN)) $(ARGS)

publish: $(READY) .venv-onnx/.ready  ## a folder to take away: weights, config, model card, ONNX file (RUN=...)
	$(PY) scripts/publish.py $(call quoted,$(RUN)) --onnx-python .venv-onnx/bin/python $(ARGS)

.venv-onnx/.ready: requirements-onnx.txt
	NEWEST_MINOR=12 $(PYTHON) -m venv .venv-onnx
	.venv-onnx/bin/python -m pip install --disable-pip-version-check -q -r requirements-onnx.txt
	@touch $@

predict: $(READY)  ## classify images (RUN=..., IMAGE="a.jpg folder"; without IMAGE: the grid of eval images)
	$(PY) scripts/predict.py $(call quoted,$(RUN)) $(or $(call paths,$(IMAGE)),--eval-grid) $(ARGS)

curves: $(READY)  ## curves of several runs in one figure (RUN="A B ...")
	$(PY) scripts/plot_curves.py $(call paths,$(RUN)) $(ARGS)

attention: $(READY)  ## SimAM's weight maps and Grad-CAM (RUN=..., IMAGE=...)
	$(PY) scripts/attention_maps.py $(call quoted,$(RUN)) $(call paths,$(IMAGE)) $(ARGS)

robustness: $(READY)  ## accuracy under corruptions and attacks, without and with SimAM (RUN="A B ..." or a folder of runs)
	$(PY) scripts/robustness.py $(call paths,$(RUN)) $(ARGS)

summary: $(READY)  ## layers, FLOPs and memory of a network (CONFIG=...; without it: one line a config)
	$(PY) scripts/summary.py $(if $(CONFIG),-c $(call quoted,$(CONFIG)),--all) $(ARGS)

matrix: $(READY)  ## parameters, FLOPs and a smoke run of every config
	$(PY) scripts/matrix.py $(ARGS)

kill-test: $(READY)  ## kill training at random moments and at every change of the disk, resume, compare (an hour)
	$(PY) scripts/kill_test.py $(ARGS)

keep: $(READY)  ## copy the small files of complete runs, or of whole sweeps, to results/ (RUN="A B ...")
	$(PY) scripts/keep_results.py $(call paths,$(RUN))

report: $(READY)  ## build results/report.html and the README's table from results/ and benchmarks/results/
	$(PY) scripts/report.py $(ARGS)

verify: $(READY)  ## is a run in line with the reference runs in results/? (RUN=...)
	$(PY) scripts/verify.py $(call quoted,$(RUN)) $(ARGS)

signal-propagation: $(READY)  ## RMS of activations and gradients before the first step (SWEEP=sweeps/...)
	$(PY) scripts/signal_propagation.py -c $(call quoted,$(SWEEP)) $(ARGS)

notebooks: $(READY) $(VENV)/.notebooks  ## execute the notebooks anew (2 minutes)
	$(PY) scripts/build_notebooks.py $(ARGS)

test-notebooks: $(READY) $(VENV)/.notebooks  ## execute the notebooks as a test, outputs not kept
	$(PY) -m pytest -q -m slow tests/test_notebooks.py $(ARGS)

$(VENV)/.notebooks: requirements-notebooks.txt $(READY)
	$(PY) -m pip install --quiet --disable-pip-version-check -r requirements-notebooks.txt
	@touch $@

show-data: $(READY)  ## look at a data set and its augmentation (CONFIG=...)
	$(PY) scripts/show_data.py -c $(call quoted,$(CONFIG)) $(ARGS)

data-caltech: $(READY)  ## find or download, verify and unpack Caltech101-16
	$(PY) scripts/prepare_data.py -c configs/caltech_towernet.yaml $(ARGS)

data-cifar: $(READY)  ## find or download, verify and unpack CIFAR-10
	$(PY) scripts/prepare_data.py -c configs/alexnet.yaml $(ARGS)

data-%: $(READY)  ## data-cifar100: likewise the data set of configs/cifar100_*.yaml
	$(PY) scripts/prepare_data.py -c $(firstword $(wildcard configs/$(subst -,_,$*)_*.yaml)) $(ARGS)

visualdl: $(READY)  ## serve the curves of runs/ (RUNS=folder, PORT=8040)
	$(PY) scripts/show_curves.py $(call quoted,$(RUNS)) --port $(PORT) $(ARGS)

gpu-check: $(READY)  ## check everything on a GPU, and write a page with versions and figures to send back
	$(PY) scripts/gpu_check.py $(ARGS)

bench: $(READY)  ## measure speed and memory, with PyTorch beside it if BENCH_TORCH_PYTHON names one (over an hour)
	$(PY) benchmarks/bench.py $(ARGS)

lock: $(READY)  ## resolve the lock files anew (needs the network)
	$(PY) -m pip install --quiet uv
	for name in requirements requirements-cpu; do \
	  $(PY) -m uv pip compile -q --universal --python-version 3.10 --no-emit-index-url --no-annotate \
	    --custom-compile-command "make lock" $$name.txt -o $$name.lock; \
	done

clean:  ## remove the environments and the compiled operator (data/ and runs/ stay)
	rm -rf $(VENV) .venv-paddle26 .venv-onnx .cache
