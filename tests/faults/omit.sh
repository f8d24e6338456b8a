#!/bin/bash
# The program is what runs: without any one of its ops, training goes another way or ends with status 3 and a message.
# An op of each (lane, kind) is left out, chosen at random: of every rank where these are two, else of all; with
# DSC_EXHAUSTIVE=1 every op.
. "${srcdir:-.}/tests/exec/job.sh" || exit 3

: "${DSC_SEED:=$(date +%s)}"
echo "# DSC_SEED=$DSC_SEED"

# ranks and options
tensor="--model layers=4,hidden=40,heads=4,vocab=131,seq=24 --tp 2"
cut="$tensor --pp 2"
layouts=("2 --dp 2 --micro-batch 4 --recompute none"
    "2 --dp 2 --micro-batch 4 --recompute full"
    "8 $cut --dp 2 --micro-batch 2 --virtual-stages 2 --sequence-parallel"
    "4 $cut --dp 1 --micro-batch 4 --schedule zb-h1"
    "2 --dp 2 --micro-batch 4 --zero 2 --offload optimizer --precision bf16 --bucket-size 20000"
    "2 --dp 2 --micro-batch 8 --zero 1 --late-gather --precision bf16 --bucket-size 20000"
    "2 --dp 2 --micro-batch 4 --zero 3 --offload params --bucket-size 20000"
    "2 $tensor --micro-batch 2 --recompute full --activation-checkpoints host"
    "2 $tensor --micro-batch 16 --recompute full --activation-checkpoints cut --precision bf16 --widen-gradients"
    "2 $tensor --micro-batch 16 --precision bf16 --widen-logits")

# ops OPTIONS: rank,op,lane,kind of the program, in random order
ops() {
    "$build/dsc-plan" --model "$tiny" --cluster local --global-batch 16 "$@" --trace p.h5 --trace-ranks all >plan &&
        "$build/dsc-trace" export p.h5 -o p.csv &&
        awk -F, -v seed="$DSC_SEED" 'BEGIN { srand(seed) } NR > 1 && $3 >= 0 { print rand() "," $0 }' p.csv |
        sort -g | cut -d, -f3-6
}

# chosen RANKS: those of the list to be left out
chosen() {
    if exhaustive; then cat; else awk -F, -v few=$(($1 <= 2)) '!seen[few ? $1 : 0, $3, $4]++'; fi | sort -t, -k1n -k2n
}

# differs RANK:OP RANKS OPTIONS: a run of 3 steps without the op
differs() {
    local omitted=$1 ranks=$2 status
    shift 2
    limit=60 train "$ranks" --steps 3 --log log --omit-op "$omitted" "$@" >lines 2>messages
    status=$?
    [ $status -eq 3 ] && [ -s messages ] && return
    cat messages
    [ $status -eq 0 ] && ! diff <(curve log) <(curve whole)
}

curve() { column loss "$1"; column grad_norm "$1"; }

lists=()
total=0
for layout in "${layouts[@]}"; do
    read -r ranks options <<<"$layout"
    lists+=("$(ops $options | chosen "$ranks")")
    total=$((total + $(wc -l <<<"${lists[-1]}")))
done
plan $((total + ${#layouts[@]}))
for i in "${!layouts[@]}"; do
    read -r ranks options <<<"${layouts[i]}"
    train "$ranks" $options --steps 3 --log whole >/dev/null
    report $? "the whole program runs: $options"
    while IFS=, read -r rank op lane kind; do
        ok "training needs rank $rank's op $op, $kind on $lane: ${options#"$cut "}" \
            differs "$rank:$op" "$ranks" $options
    done <<<"${lists[i]}"
done
