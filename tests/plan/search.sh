#!/bin/bash
# dsc-plan --search: what it prints is what evaluating a strategy by itself gives, in order; what is given stays.
. "${srcdir:-.}/tests/tap.sh"

build=$PWD
scratch=$(mktemp -d "${TMPDIR:-/tmp}/dsc-test-XXXXXX")
trap 'rm -rf "$scratch"' EXIT
cd "$scratch" || exit 3

small=(--model layers=8,hidden=1024,heads=8,vocab=8192,seq=512 --cluster dgx-a100-80g:1 --precision bf16)
search() { "$build/dsc-plan" "${small[@]}" --global-batch 32 --search "$@"; }

# values KEY: of all strategies in found.json, in order
values() { sed -nE "s/^ *\"$1\": \"?([^\",]*)\"?,?\$/\1/p" found.json; }

prints_as_many() { search --top "$1" --json >found.json && [ "$(values step_s | wc -l)" -eq "$1" ]; }

is_sorted() { values step_s >steps && sort -g -c steps; }

# The first strategy's options, as words of a command line.
first_options() {
    local key option
    for key in tp pp dp micro_batch virtual_stages schedule zero offload recompute; do
        option=--${key//_/-}
        echo "$option $(values $key | head -n 1)"
    done
    [ "$(values sequence_parallel | head -n 1)" = true ] && echo --sequence-parallel
}

evaluates_alike() {
    local options
    read -r -a options <<<"$(first_options | tr '\n' ' ')"
    values step_s | head -n 1 >expected
    "$build/dsc-plan" "${small[@]}" --global-batch 32 "${options[@]}" --json >found.json && values step_s >got
    cat expected got
    cmp expected got
}

keeps_given() {
    search --top 5 --tp 2 --zero 1 --schedule 1f1b --json >found.json || return
    [ "$(values tp | sort -u)" = 2 ] && [ "$(values zero | sort -u)" = 1 ] && [ "$(values schedule | sort -u)" = 1f1b ]
}

keeps_given_by_config() {
    echo '{"zero_optimization": {"stage": 0}, "train_batch_size": 32, "dsc": {"pp": 2}}' >config.json
    "$build/dsc-plan" "${small[@]}" --config config.json --search --top 5 --json >found.json || return
    [ "$(values pp | sort -u)" = 2 ] && [ "$(values zero | sort -u)" = 0 ]
}

same_twice() {
    search >one 2>/dev/null && search >two 2>/dev/null && cmp one two
}

says_why() {
    search --top 2 >table 2>messages && cat table messages
    local loss='([0-9.]+ % slower, (passes|bubble|reduction|update) \+|does not fit, )'
    grep -q 'strategies considered' table && grep -q 'one axis changed' table &&
        grep -qE "(tp|pp|micro-batch) [0-9]+: $loss" table && grep -q 'a second' messages
}

none_fits() {
    search --device-memory 1MiB --json >found.json 2>messages
    [ $? -eq 1 ] && [ "$(cat found.json)" = '[]' ] && grep -q 'none fits' messages
}

# Software whose selective recomputation is all of every second layer: it costs about half of what all layers do.
selects_layers() {
    "$build/dsc-plan" --model layers=8,hidden=1024,heads=8,vocab=8192,seq=512 --cluster dgx-h100:2 --precision bf16 \
        --global-batch 64 --zero 3 --tp 1 --pp 1 --micro-batch 4 --stack fsdp-2025 --search --top 1 >table 2>messages
    cat table
    awk '/recompute selective: [0-9.]+ % slower/ { half = $3 } /recompute full: [0-9.]+ % slower/ { all = $3 }
         END { exit !(half > 0.3 * all && half < 0.75 * all) }' table
}

# Bounds of what hosts pace are none; and the closed form's favourite is second by the engine.
no_neighbour_is_faster() {
    "$build/dsc-plan" --model layers=8,hidden=320,heads=4,vocab=1000,seq=64,gated=1 --cluster dgx-a100-80g:1 \
        --precision fp16 --global-batch 24 --offload none --search --top 2 >table || return
    "$build/dsc-plan" --model layers=20,hidden=2560,heads=20,vocab=32000,seq=2048,gated=1,kv_heads=4 \
        --cluster dgx1-v100-32g:2 --precision fp16 --global-batch 16 --zero 1 --search >>table || return
    cat table
    grep -q 'slower, .*, simulated' table && ! grep -q faster table
}

# FSDP keeps gathered weights under a pipeline, whose passes ZB-H1 may then split.
judges_what_software_runs() {
    local kept=(--model layers=8,hidden=1024,heads=8,vocab=8192,seq=512 --cluster dgx-h100:1 --precision bf16
                --global-batch 32 --zero 3 --pp 2 --schedule zb-h1 --stack fsdp-2025)
    "$build/dsc-plan" "${kept[@]}" --search --top 1 --json >found.json && [ "$(values schedule)" = zb-h1 ]
}

# The whole strategy of found.json, as words of a command line.
all_options() {
    sed -n '/"strategy": {/,/}/p' found.json | sed -nE 's/^ *"([a-z_]+)": "?(.*[^",{])"?,?$/\1 \2/p' |
        while read -r key value; do
            case $value in
            true) echo "--${key//_/-}" ;;
            false) echo "--no-${key//_/-}" ;;
            *) echo "--${key//_/-} $value" ;;
            esac
        done
}

# ZeRO 3 as its software has it is another strategy, whose gradients' type is not what its ZeRO stage's would be.
says_all_of_a_strategy() {
    local kept=(--model layers=8,hidden=1024,heads=8,vocab=8192,seq=512 --cluster dgx-h100:1 --precision bf16)
    local options
    "$build/dsc-plan" "${kept[@]}" --global-batch 32 --zero 3 --pp 2 --search --top 1 --json >found.json || return
    values program_hash >expected
    read -r -a options <<<"$(all_options | tr '\n' ' ')"
    echo "${options[@]}"
    "$build/dsc-plan" "${kept[@]}" "${options[@]}" --stack "$(values stack)" --json >found.json || return
    values program_hash >got
    cmp expected got
}

# With tp 4 some recomputation and sequence parallelism is none: the program is another strategy's.
lists_programs_once() {
    search --tp 4 --top 200 --json >found.json || return
    values program_hash >all && sort -u all >once && wc -l all once && [ "$(wc -l <all)" -eq 200 ] &&
        [ "$(wc -l <once)" -eq 200 ]
}

# Four nodes between which messages of stages cost more than the rule for orders sees.
swaps_dp_and_pp() {
    local four=(--model layers=16,hidden=2048,heads=16,vocab=8192,seq=1024 --cluster dgx-a100-80g:4 --precision fp16
                --global-batch 64 --zero 1 --pp 4) order options
    "$build/dsc-plan" "${four[@]}" --search --json >found.json || return
    order=$(sed -nE 's/^ *"rank_order": "(.*)",?$/\1/p' found.json | head -n 1)
    read -r -a options <<<"$(first_options | tr '\n' ' ')"
    values step_s | head -n 1 >found
    "$build/dsc-plan" "${four[@]}" "${options[@]}" --json >found.json && values step_s | head -n 1 >chosen || return
    "$build/dsc-plan" "${four[@]}" "${options[@]}" --rank-order "$order" --json >found.json || return
    values step_s | head -n 1 >swapped
    echo "$order: $(cat found swapped chosen)"
    cmp found swapped && awk -v swapped="$(cat swapped)" "{ exit !(swapped < \$1) }" chosen
}

# refuses TEXT OPTIONS...
refuses() {
    local text=$1
    shift
    "$build/dsc-plan" "${small[@]}" "$@" >table 2>messages
    [ $? -eq 2 ] && cat messages && [ ! -s table ] && grep -q -- "$text" messages
}

plan 20
ok "it prints as many strategies as --top says" prints_as_many 4
ok "they are in the order of their steps" is_sorted
ok "evaluated by itself the first takes as long" evaluates_alike
ok "what the command line gives is kept" keeps_given
ok "what a configuration gives is kept, the default's value too" keeps_given_by_config
ok "the same command prints the same bytes" same_twice
ok "it says why neighbours lose, and on stderr how fast it was" says_why
ok "what is printed of a strategy is all that makes its program" says_all_of_a_strategy
ok "no neighbour of the first is faster" no_neighbour_is_faster
ok "where nothing fits it prints an empty array and ends with status 1" none_fits
ok "layers that software selects to be computed again cost about half of all" selects_layers
ok "of what a stack makes of a strategy it asks whether that is legal" judges_what_software_runs
ok "strategies that are one program are listed once" lists_programs_once
ok "ranks are put in the order, dp or pp first, that is faster, and the strategy says so" swaps_dp_and_pp
ok "without a global batch it is refused" refuses 'give --global-batch' --search
ok "degrees that leave devices idle are refused" refuses 'is the cluster.s 8 devices' --search --global-batch 32 --tp 3
ok "heads that tp does not divide are refused" refuses 'does not divide' --search --global-batch 30 --tp 6 --pp 1 --dp 1
ok "--top without --search is refused" refuses 'is for --search' --top 3
ok "--search goes without --check" refuses 'goes without' --search --global-batch 32 --check
ok "a batch whose product does not fit 63 bits is no multiple" refuses 'is no multiple' --search --global-batch 32 \
    --micro-batch 1099511627776 --gradient-accumulation-steps 1099511627776
