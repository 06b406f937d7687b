#!/usr/bin/env bash
# Runs on a GPU what has never run on one: bash benchmarks/gpu_check.sh > docs/gpu.md
# About 10 minutes: tests marked `cuda`, then a search with mixed precision, a fine-tune,
# an export and times of the demo's detector. Every step goes on where another fails.
set -u
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-.venv/bin/python}
OUT=${OUT:-work_dirs/gpu_check}
SEARCH=configs/demo/digits_search.py
DENSE=work_dirs/digits_detector/epoch_12.pth
mkdir -p "$OUT"

step() {  # NAME SECONDS COMMAND...
    local name=$1 limit=$2 start=$SECONDS log="$OUT/${1// /_}.log"
    shift 2
    if timeout "$limit" "$@" > "$log" 2>&1; then result=passed; else result="FAILED ($?)"; fi
    echo "| $name | $result | $((SECONDS - start)) s | $(tail -n 1 "$log" | tr '|' ' ' | cut -c1-100) |"
}

echo '# On a GPU'
echo
"$PYTHON" -c 'import torch; print(torch.cuda.get_device_name(), "torch", torch.__version__)' || exit 1
echo
echo '| step | result | time | last line |'
echo '|---|---|---|---|'
step 'tests' 180 "$PYTHON" -m pytest -q -m cuda tests/faults
step 'images' 60 "$PYTHON" tools/make_digits.py
step 'train with AMP' 180 "$PYTHON" tools/train.py configs/demo/digits_detector.py --amp
step 'search with AMP' 120 "$PYTHON" tools/search.py $SEARCH --work-dir "$OUT/search" \
    --cfg-options search_cfg.searcher.evaluations=12 search_cfg.evaluator.amp=True
step 'fine-tune with AMP' 90 "$PYTHON" tools/train.py $SEARCH --amp \
    --policy "$(ls "$OUT"/search/policies/*.json 2>/dev/null | head -n 1)" \
    --work-dir "$OUT/tuned" --cfg-options train_cfg.max_epochs=1
step 'export' 60 "$PYTHON" tools/export.py $SEARCH $DENSE --int8 --out "$OUT/dense.onnx"
step 'times' 30 "$PYTHON" tools/benchmark.py "$OUT/dense.onnx" --repeats 20
