#!/bin/bash
# The run of benchmarks/paper.py on one or two lent GPUs without a network, in consecutive calls:
#   bash benchmarks/gpu_paper.sh STEP
# A call brings at most 64 MiB, so the files come in three of them, in runs/gpu/STEP:
#   1: site.tar.xz (ftfy, spaCy and what they need, unpacked wheels), books-val.tar.xz, vocabulary/
#      and data.tar.xz (glue/, winograd/)    2: books-1.tar.xz    3: books-2.tar.xz    4: nothing
# Seconds measured on an H200 with 16 cores: 1 unpacks and, with SMOKE=4, tries everything, 189
# (without 15); 2 keeps a file; 3 starts `all` in a session of its own, which outlives the call,
# and waits; 4 and later calls wait: tokens 40, pre-training 841, 156 fine-tuning steps a second
# and GPU. `scaling` runs while the files come. A second GPU measures `beside` during the
# pre-training, then fine-tunes, too.
# In $OUT: log.txt, and what there is of the results.
set -u
cd "$(dirname "$0")/.."
: "${OUT:=/tmp/out-files}" "${BASE:=/tmp/paper}" "${PYTHON:=python3}" "${FILES:=runs/gpu/$1}"
export RESULTS=$BASE/results PYTHONPATH=$PWD:$BASE/site${PYTHONPATH:+:$PYTHONPATH} PYTHONUNBUFFERED=1 HF_HUB_OFFLINE=1
mkdir -p "$OUT" "$RESULTS"
[ -d "$FILES" ] && [ "$1" != all ] && cp -r "$FILES"/. "$BASE"
# Far above GPT-1's rate: a twentieth of its updates. float16 rounds less than bfloat16.
RECIPE=${RECIPE:-'{"dtype": "float16", "peak": 4e-4, "warmup": 1500}'}
SHORT=${SHORT:-'{"dtype": "float16", "warmup": 20}'} STEPS=${STEPS:-11000} SMOKE=${SMOKE:-} WAIT=${WAIT:-575}

bench() { echo "== $SECONDS s: $*"; $PYTHON -m "benchmarks.$@" || echo "FAILED: $*"; }
unpack() { $PYTHON -m tarfile -e "$BASE/$1" "$BASE"; }
wait_for() { while ! [ -e "$BASE/done" ] && [ $SECONDS -lt "$1" ]; do sleep 2; done; }

smoke() {
    bench paper pretrain "$BASE/val" "$BASE/val" "$BASE/smoke" "$BASE/vocabulary" "$SMOKE" --changes "$SHORT" | tail -c 2500
    bench paper bag "$BASE"
    timeout 60 $PYTHON -m benchmarks.paper tasks "$BASE" "$BASE/smoke" --processes 12 --changes '{"limit": 200, "epochs": 1}'
    tail -3 "$RESULTS/paper-tasks.jsonl"
    rm -rf "$BASE/smoke" "$RESULTS"
}

beside() {
    mkdir -p "$BASE/out/vocabulary-40478"
    cp "$BASE"/vocabulary/* "$BASE/out/vocabulary-40478"
    bench pretraining speed "$BASE/train" "$BASE/val" "$BASE/out"
    bench finetuning
    bench pretraining tokenize "$BASE/train" "$BASE/out" --sizes "4096 8192 12288"
    bench pretraining trials "$BASE/train" "$BASE/val" "$BASE/out"
}

case $1 in
1)
    for x in site books-val data; do unpack $x.tar.xz & done
    wait
    nvidia-smi -L
    df -h /tmp | tail -1
    $PYTHON -c "import torch, minigpt.tokenizer as t; print(torch.__version__, t.load_libraries())"
    if [ -n "$SMOKE" ]; then smoke; fi
    setsid bash "$0" scaling > "$BASE/scaling.txt" 2>&1 &
    ;;
2) ;;
3)
    setsid bash "$0" all > "$BASE/all.txt" 2>&1 &
    wait_for "$WAIT"
    ;;
scaling)
    bench scaling
    touch "$BASE/scaled"
    exit
    ;;
all)
    for x in books-1 books-2; do unpack $x.tar.xz & done
    wait
    while ! [ -e "$BASE/scaled" ]; do sleep 1; done
    gpus=$(nvidia-smi -L | wc -l)
    [ "$gpus" = 2 ] && CUDA_VISIBLE_DEVICES=1 beside > "$BASE/beside.txt" 2>&1 &
    CUDA_VISIBLE_DEVICES=0 bench paper pretrain "$BASE/train" "$BASE/val" "$BASE/model" "$BASE/vocabulary" "$STEPS" --changes "$RECIPE" | tail -c 1000
    bench paper tasks "$BASE" "$BASE/model" --processes $((12 * gpus))
    wait
    [ "$gpus" = 2 ] || beside
    touch "$BASE/done"
    exit
    ;;
*) wait_for "$WAIT" ;;
esac
cat "$BASE"/{scaling,all,beside}.txt > "$OUT/log.txt" 2>/dev/null
tail -c 4000 "$OUT/log.txt"
tail -n 2 "$BASE/model/measured.csv" "$BASE/model/log.csv" 2>/dev/null
nvidia-smi --query-gpu=utilization.gpu,memory.used --format=csv
mkdir -p "$RESULTS"
tar cz -C "$RESULTS" . > "$OUT/results.tar.gz"
[ -e "$BASE/model/log.csv" ] && tar cz -C "$BASE/model" log.csv measured.csv samples.txt recipe.json > "$OUT/run.tar.gz"
[ -e "$BASE/done" ] && echo "all is done"
echo "== $SECONDS s: step $1 done"
