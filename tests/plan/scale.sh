#!/bin/bash
# dsc-plan --smallest-cluster and --largest-model: what they find does, and one less or one more does not.
. "${srcdir:-.}/tests/tap.sh"

build=$PWD
scratch=$(mktemp -d "${TMPDIR:-/tmp}/dsc-test-XXXXXX")
trap 'rm -rf "$scratch"' EXIT
cd "$scratch" || exit 3

model=layers=8,hidden=1024,heads=8,vocab=8192,seq=512
on() { "$build/dsc-plan" --model "$1" --cluster "$2" --precision bf16 --global-batch 96 "${@:3}"; }
# With degrees given a search is short.
smallest() { on $model dgx-a100-80g --smallest-cluster --tp 8 --pp 1 --tokens 100B "$@"; }
largest() { on $model dgx-a100-80g:1 --largest-model --zero 1 --tp 4 --offload none "$@"; }

# first KEY: its value on the first level of found.json
first() { sed -nE "s/^  \"$1\": \"?([^\"]*[^\",])\"?,?\$/\1/p" found.json; }

# days NODES OPTIONS...: what the strategy of the search on so many nodes comes to
days() {
    on $model "dgx-a100-80g:$1" --search --top 1 --tp 8 --pp 1 --json >one.json 2>messages || return
    local key options=()
    for key in dp micro_batch virtual_stages schedule zero offload recompute; do
        options+=("--${key//_/-}" "$(sed -nE "s/^ *\"$key\": \"?([^\",]*)\"?,?\$/\1/p" one.json | head -n 1)")
    done
    grep -q '"sequence_parallel": true' one.json && options+=(--sequence-parallel)
    on $model "dgx-a100-80g:$1" --tp 8 --pp 1 "${options[@]}" --tokens 100B --json >run.json 2>messages || return
    sed -nE 's/^ *"days": ([^,]*),$/\1/p' run.json
}

less() { awk -v a="$1" -v b="$2" 'BEGIN { exit !(a < b) }'; }

# Halfway between what two and three nodes take, three are the fewest.
finds_three() {
    local two three
    two=$(days 2) && three=$(days 3) && less "$three" "$two" || return
    smallest --deadline "$(awk -v a="$two" -v b="$three" 'BEGIN { printf "%.9fd", (a + b) / 2 }')" --json >found.json
    cat found.json
    [ "$(first nodes)" = 3 ] && [ "$(first devices)" = 24 ] && [ "$(first days)" = "$three" ]
}

fewer_is_late() { tr -d ' \n' <found.json | grep -q '"nodes":2,"devices":16,"fits":true,[^}]*"in_time":false'; }

units_agree() {
    smallest --deadline 240h >one 2>messages && smallest --deadline 10d >two 2>messages && cmp one two
}

too_late() {
    on $model dgx-a100-80g:2 --smallest-cluster --tp 8 --pp 1 --tokens 100B --deadline 1s >table 2>messages
    [ $? -eq 1 ] && cat messages && [ ! -s table ] && grep -q '2 nodes take' messages
}

finds_largest() {
    largest --json >found.json 2>messages && cat found.json
    local layers
    layers=$(first layers)
    [ "$layers" -gt 8 ] && [ "$(first hidden)" = $((128 * ((layers + 7) / 8 * 8))) ]
}

# searches LAYERS: that model of the family
searches() {
    local heads=$((($1 + 7) / 8 * 8))
    on "layers=$1,hidden=$((128 * heads)),heads=$heads,vocab=8192,seq=512" dgx-a100-80g:1 --search --top 1 --zero 1 \
        --tp 4 --offload none >table 2>messages
}

largest_fits() { searches "$(first layers)"; }
more_does_not() { searches $(($(first layers) + 1)); [ $? -eq 1 ] && grep -q 'none fits' messages; }

nothing_fits() {
    largest --device-memory 1MiB >table 2>messages
    [ $? -eq 1 ] && [ ! -s table ] && cat messages && grep -q 'not even' messages
}

# What is printed as --model is the model that was tried: its parameters are as many.
largest_is_llama() {
    on llama2-7b dgx-a100-80g:1 --largest-model --zero 1 --tp 8 --pp 1 --offload none >table 2>messages || return
    cat table
    local words parameters unit
    read -r _ parameters unit _ words < <(sed -nE '1s/ parameters on .* --model / at /p' table) && [ -n "$words" ] &&
        "$build/dsc-plan" --model "$words" --cluster dgx-a100-80g:1 --precision bf16 --tp 8 --zero 1 \
            --recompute full >one 2>messages
    grep "^model .* $parameters $unit parameters\$" one && grep '^model .* gated ffn' one
}

shows_rows() { smallest --deadline 10d >table && cat table && grep -q '^smallest ' table && grep -q 'days$' table; }

# refuses TEXT OPTIONS...
refuses() {
    on $model dgx-a100-80g "${@:2}" >table 2>messages
    [ $? -eq 2 ] && cat messages && [ ! -s table ] && grep -q -- "$1" messages
}

plan 17
ok "the fewest nodes are those whose best strategy is in time" finds_three
ok "one node fewer misses the deadline" fewer_is_late
ok "hours and days are one deadline" units_agree
ok "a table shows what was tried" shows_rows
ok "where the most nodes are late it says how late, and ends with status 1" too_late
ok "the largest model is one of the family" finds_largest
ok "some strategy fits it" largest_fits
ok "one layer more does not fit" more_does_not
ok "of LLaMA's family the largest is one of that, and printed so" largest_is_llama
ok "where one layer does not fit it ends with status 1" nothing_fits
ok "--smallest-cluster without a deadline is refused" refuses 'N and --deadline' --smallest-cluster --tokens 1B
ok "a deadline without its unit is refused" refuses 's, h or d' --smallest-cluster --tokens 1B --deadline 30
ok "a deadline without --smallest-cluster is refused" refuses 'is for --smallest-cluster' --deadline 30d
ok "fewer tokens than a step has are refused" refuses 'a step has' --smallest-cluster --tokens 10 --deadline 1d
ok "--largest-model goes without --tokens" refuses 'goes without --tokens' --largest-model --tokens 1B
ok "--largest-model goes without --search" refuses 'are two questions' --largest-model --search
ok "so are they where a step has more than 2^63" refuses 'a step has' --smallest-cluster --tokens 1B --deadline 1d \
    --global-batch 1099511627776 --seq-len 1099511627776
