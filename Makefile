# `make demo` and `make test` do all of their own set-up in .venv; they need Python 3.11 or newer with pip, nothing else.
PYTHON ?= python3
ENV = .venv
BIN = $(ENV)/bin
DGPO = $(BIN)/dgpo

OUT ?= runs/demo
STEPS ?= 40
SEEDS ?= 4
PROCESSES ?= 2
JUDGES = --reward ocr --reward 'ocr[weights=v4,detect=false]' --reward imagestats

.PHONY: demo quick test slow check lint clean

demo: $(ENV)/ready
	$(DGPO) eval --suite signs --model tiny $(JUDGES) --seeds $(SEEDS) --output $(OUT)/before
	$(DGPO) train --reward ocr --steps $(STEPS) --num-processes $(PROCESSES) --output $(OUT)/run
	$(DGPO) eval --suite signs --model $(OUT)/run $(JUDGES) --seeds $(SEEDS) --output $(OUT)/after
	$(DGPO) compare $(OUT)/before $(OUT)/after --output $(OUT)/compare.csv --picture $(OUT)/before_after.png --html $(OUT)/report.html
	@$(BIN)/python -m dgpo.models.tiny.record
	@echo "The comparison: $(OUT)/compare.csv. The curve: $(OUT)/run/curve.png. Before and after: $(OUT)/before_after.png. All of it, image by image: $(OUT)/report.html."

# Pure modules: no network is loaded, no process or server is started.
QUICK = tests/benchmarks/reading tests/benchmarks/geneval tests/rewards/geneval/test_rules.py tests/rewards/geneval/test_clauses.py \
	tests/rewards/geneval/test_geometry.py tests/rewards/ocr/test_text.py tests/rewards/test_parse.py \
	tests/rewards/test_prompt.py tests/rewards/test_score.py tests/rewards/test_card.py tests/rewards/test_errors.py \
	tests/dgpo/test_advantage.py tests/dgpo/test_noise.py tests/dgpo/test_paths.py tests/dgpo/test_samplers.py \
	tests/dgpo/test_schedule.py tests/dgpo/test_settings.py tests/dgpo/test_config.py tests/dgpo/test_metrics.py \
	tests/dgpo/algorithms/test_group_preference.py tests/dgpo/supervision/test_alarms.py

quick: $(ENV)/ready
	$(BIN)/python -m pytest -q $(QUICK)

# Two processes of one thread each: more fight over the cores, and each holds up to 3 GB of small networks.
test: $(ENV)/ready
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist loadfile

slow: $(ENV)/ready
	$(BIN)/python -m pytest -q -m slow

lint: $(ENV)/ready
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	$(BIN)/pyright --pythonpath $(BIN)/python

check: lint test

# The second OCR engine's package is wanted for its weights only; its own requirements would bring an opencv that needs libGL.
$(ENV)/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(ENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[ocr,openclip,serve,remote,tables,ray,vlm,dev]'
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --no-deps rapidocr_onnxruntime
	touch $@

clean:
	rm -rf $(ENV)
