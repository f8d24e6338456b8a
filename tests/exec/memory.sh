#!/bin/bash
# The ledger is the allocator: the peak that dsc-plan foresees for every rank and space is the largest that its trace
# shows, the largest of the measured trace, and the one that the log has.
. "${srcdir:-.}/tests/exec/job.sh" || exit 3

# peaks TRACE: "rank space bytes" of each, the largest that the trace shows
peaks() {
    "$build/dsc-trace" export "$1" -o "$1.json" || return
    sed -n 's/.*"ph":"C","name":"\([a-z]*\)","pid":\([0-9]*\),.*"bytes":\([0-9]*\).*/\2 \1 \3/p' "$1.json" |
        sort -k1,1n -k2,2 -k3,3nr | awk '!seen[$1, $2]++'
}

# logged_peaks: the same of the last line of the log
logged_peaks() {
    local space
    for space in device host; do
        column peak_${space}_bytes log | tail -n 1 | tr -d '[]' | tr ',' '\n' |
            awk -v space=$space '{ print NR - 1, space, $1 }'
    done | sort -k1,1n -k2,2
}

# arena SPACE PLAN: arena_bytes of dsc-plan's JSON
arena() { sed -n "/\"$1\": {/,/}/s/.*\"arena_bytes\": \([0-9]*\).*/\1/p" "$2"; }

foreseen() { # RANKS OPTIONS
    local ranks=$1
    shift
    rm -f predicted.h5 measured.h5 log
    "$build/dsc-plan" --model "$tiny" --cluster local --global-batch 16 "$@" --json --trace predicted.h5 \
        --trace-ranks all >plan &&
        train "$ranks" "$@" --steps 3 --trace measured.h5 --log log >/dev/null || return
    diff <(peaks predicted.h5) <(peaks measured.h5) && diff <(peaks measured.h5) <(logged_peaks) || return
    [ "$(logged_peaks | wc -l)" -eq $((2 * ranks)) ] && [ "$(arena memory plan)" -gt 100000 ] &&
        diff <(logged_peaks | sort -k3n | awk '$2 == "device" { b = $3 } END { print b }') <(arena memory plan) &&
        diff <(logged_peaks | sort -k3n | awk '$2 == "host" { b = $3 } END { print b }') <(arena host_memory plan)
}

# Ranks and options; words are split where spaces are.
even=layers=2,hidden=40,heads=4,vocab=131,seq=24
layouts=("1 --micro-batch 1"
    "1 --micro-batch 16 --recompute full"
    "1 --micro-batch 2 --precision bf16 --attention dense-unfused"
    "2 --dp 2 --micro-batch 4 --recompute selective"
    "2 --dp 2 --micro-batch 8 --precision fp16"
    "4 --dp 4 --micro-batch 1 --precision bf16 --recompute full"
    "2 --dp 2 --micro-batch 2 --zero 2 --precision bf16 --bucket-size 5000"
    "2 --dp 2 --micro-batch 2 --zero 1 --late-gather --precision bf16 --bucket-size 5000"
    "1 --micro-batch 16 --recompute full --precision bf16 --widen-logits"
    "2 --tp 2 --micro-batch 16 --recompute full --precision fp16 --widen-logits --model $even"
    "1 --micro-batch 2 --offload params --precision bf16 --bucket-size 5000 --prefetch 2"
    "2 --dp 2 --micro-batch 2 --zero 1 --offload optimizer --delay-update 1"
    "4 --dp 4 --micro-batch 2 --zero 3 --offload params --recompute full")
plan ${#layouts[@]}
for layout in "${layouts[@]}"; do
    # shellcheck disable=SC2086
    ok "predicted, traced and logged peaks are one number: n=$layout" foreseen $layout
done
