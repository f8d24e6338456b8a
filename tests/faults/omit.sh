#!/bin/bash
# The program is what runs: without any one of its ops, training goes another way or ends with status 3 and a message.
# An op of each (lane, kind) of every rank is left out, chosen at random; with DSC_EXHAUSTIVE=1 every op.
. "${srcdir:-.}/tests/exec/job.sh" || exit 3

: "${DSC_SEED:=$(date +%s)}"
echo "# DSC_SEED=$DSC_SEED"
layout=(--dp 2 --micro-batch 4)

# ops OPTIONS: rank,op,lane,kind of the program, in random order
ops() {
    "$build/dsc-plan" --model "$tiny" --cluster local --global-batch 16 "$@" --trace p.h5 --trace-ranks all >plan &&
        "$build/dsc-trace" export p.h5 -o p.csv &&
        awk -F, -v seed="$DSC_SEED" 'BEGIN { srand(seed) } NR > 1 && $3 >= 0 { print rand() "," $0 }' p.csv |
        sort -g | cut -d, -f3-6
}

chosen() { if exhaustive; then cat; else awk -F, '!seen[$1, $3, $4]++'; fi | sort -t, -k1n -k2n; }

# differs RANK:OP OPTIONS: a run of 3 steps without the op
differs() {
    local status
    limit=60 train 2 --steps 3 --log log --omit-op "$@" >lines 2>messages
    status=$?
    [ $status -eq 3 ] && [ -s messages ] && return
    cat messages
    [ $status -eq 0 ] && ! diff <(curve log) <(curve whole)
}

curve() { column loss "$1"; column grad_norm "$1"; }

declare -A lists
total=0
for recompute in none full; do
    lists[$recompute]=$(ops "${layout[@]}" --recompute $recompute | chosen)
    total=$((total + $(wc -l <<<"${lists[$recompute]}")))
done
plan $((total + 2))
for recompute in none full; do
    train 2 "${layout[@]}" --recompute $recompute --steps 3 --log whole >/dev/null
    report $? "the whole program runs, recompute $recompute"
    while IFS=, read -r rank op lane kind; do
        ok "training needs rank $rank's op $op, $kind on $lane, recompute $recompute" \
            differs "$rank:$op" "${layout[@]}" --recompute $recompute
    done <<<"${lists[$recompute]}"
done
