#!/bin/bash
# The figures of benchmarks/pretraining.py on one lent GPU without a network, in four calls:
#   bash benchmarks/gpu_pretraining.sh STEP [ARGUMENT]
# A call brings at most 64 MiB, so the files come in three of them, in runs/gpu/STEP:
#   1: site.tar.xz (ftfy, spaCy and what they need, unpacked wheels), books-val.tar.xz, vocabulary/
#   2: books-1.tar.xz    3: books-2.tar.xz    4: nothing
# They are copied to /tmp at once. Seconds, estimated for an H200 with 16 cores (start of the
# machine 80, each call's transfer 15):
#   1 smoke: unpack 15, everything with few steps 110     (its compiled kernels serve step 3)
#   2 keep a file                                          2
#   3 unpack 15; tokenize: count words 15, learn 5, encode 4 x 15;
#     speed: 500 steps x 32,768 tokens at 600,000 a second 27, compile, measure, save 30;
#     trials: 9, each on 100 million tokens, 50 s with compilation
#   4 tiny: ARGUMENT seconds (default 430), beside it on cores of their own `cpu` 200, `ngram` 200
# Together 80 + 60 + 125 + 2 + 560 + 450 = 1,277 s. Optional: `5 BATCH`, speed at another batch: 100.
# `tokenize` and `tiny` of 2026-11-30 were made in less time: SHORT=1 in all calls, in call 3
# SIZES="4096 8192", trials of 20 seconds, in call 4 425 seconds and
# NGRAM=8192 TINY='{"vocab_size": 8192, "n_embd": 256, "n_layer": 8, "n_head": 4}', the old shape.
# Comes back in $OUT: log.txt, results.tar.gz, and tiny.tar in pieces.
set -u
cd "$(dirname "$0")/.."
: "${OUT:=/tmp/out-files}" "${BASE:=/tmp/pretraining}" "${PYTHON:=python3}" "${FILES:=runs/gpu/$1}"
export RESULTS=$BASE/results PYTHONPATH=$PWD:$BASE/site${PYTHONPATH:+:$PYTHONPATH} PYTHONUNBUFFERED=1 HF_HUB_OFFLINE=1
mkdir -p "$OUT" "$RESULTS"
[ -d "$FILES" ] && cp -r "$FILES"/. "$BASE"
exec > >(tee "$OUT/log.txt") 2>&1
few='{"steps": 60}' books=$BASE/train held_out=$BASE/val out=$BASE/out

bench() { echo "== $SECONDS s: $*"; $PYTHON -m benchmarks.pretraining "$@" || echo "FAILED: $*"; }
pack() { tar cz -C "$RESULTS" . > "$OUT/results.tar.gz"; }
unpack() { $PYTHON -m tarfile -e "$BASE/$1" "$BASE"; }

case $1 in
1)
    unpack site.tar.xz &
    pid=$!
    unpack books-val.tar.xz
    wait $pid
    nvidia-smi -L
    $PYTHON -c "import torch, minigpt.tokenizer as t; print(torch.__version__, t.load_libraries())"
    bench tokenize "$held_out" "$out-smoke" --sizes "${SIZES:-8192}"
    mkdir -p "$out-smoke"
    cp -r "$BASE/vocabulary" "$out-smoke/vocabulary-40478"
    [ -n "${SHORT:-}" ] || bench speed "$held_out" "$held_out" "$out-smoke" --changes "${SPEED:-$few}"
    bench trials "$held_out" "$held_out" "$out-smoke" --tokens 2000000
    [ -n "${SHORT:-}" ] || bench tiny "$held_out" "$held_out" "$out-smoke" 30
    ;;
2) ;;
3)
    rm -f "$RESULTS"/* # of the smoke test
    unpack books-1.tar.xz &
    pid=$!
    unpack books-2.tar.xz
    wait $pid
    bench tokenize "$books" "$out" ${SIZES:+--sizes "$SIZES"}
    [ -n "${SHORT:-}" ] || bench speed "$books" "$held_out" "$out" ${SPEED:+--changes "$SPEED"}
    bench trials "$books" "$held_out" "$out" ${TRIALS:-}
    ;;
4)
    best=$($PYTHON -c "import json, benchmarks.pretraining as p
print(p.best_of(json.load(open(p.RESULTS / 'pretraining-trials.json'))['trials'])['vocab_size'])")
    {
        CUDA_VISIBLE_DEVICES='' OMP_NUM_THREADS=2 timeout 300 taskset -c 0,1 \
            $PYTHON -m benchmarks.pretraining cpu "$held_out" "$BASE/cpu" ${CPU:-}
        timeout 270 $PYTHON -m benchmarks.ngram "$books" "$held_out" \
            "$out/vocabulary-${NGRAM:-$best}" "$out/data"
    } > "$RESULTS/beside.txt" 2>&1 &
    beside=$!
    bench tiny "$books" "$held_out" "$out" "${2:-430}" ${TINY:+--changes "$TINY"}
    tar c -C "$out/tiny-float16" config.json model.safetensors vocab.json merges.txt |
        split -d -b 15M - "$OUT/tiny.tar."
    gzip -c "$out/tiny-0/log.csv" > "$RESULTS/tiny-log.csv.gz"
    pack
    wait $beside
    tail -c 3000 "$RESULTS/beside.txt"
    ;;
5) bench speed "$books" "$held_out" "$out" --changes "{\"batch_size\": $2}" ;;
esac
pack
echo "== $SECONDS s: step $1 done"
