#!/bin/bash
# dsc-plan --longest-seq: that length fits, a step more does not; what cannot be is no failure of the search.
. "${srcdir:-.}/tests/tap.sh"

build=$PWD
scratch=$(mktemp -d "${TMPDIR:-/tmp}/dsc-test-XXXXXX")
trap 'rm -rf "$scratch"' EXIT
cd "$scratch" || exit 3

model=layers=2,hidden=64,heads=4,vocab=64
evaluate() { # SEQ MEMORY OPTIONS...
    local seq=$1 memory=$2
    shift 2
    "$build/dsc-plan" --cluster local --model "$model,seq=$seq" \
        --device-memory "$memory" "$@"
}

longest() { evaluate 128 "$@" --longest-seq >table 2>messages || { cat messages; return 1; }; }
length() { awk -v kind="$1" '$1 == kind { print $2 }' table; }

# is_longest STEP MEMORY OPTIONS...: what is printed first fits, a step more does not
is_longest() {
    local step=$1 found
    shift
    longest "$@" && cat table && found=$(awk 'NR == 1 { print $2 }' table) || return
    evaluate "$found" "$@" >/dev/null && ! evaluate $((found + step)) "$@" >/dev/null 2>&1
}

# 77 M parameters, whose gradients megatron-2021 copies to fp32 for the update
software_counts() {
    local model=layers=24,hidden=512,heads=8,vocab=2048
    is_longest "$@" --stack megatron-2021
}

beats_stored_scores() {
    longest 100MiB --attention bslongformer || return
    cat table
    [ "$(length bslongformer)" -gt $((3 * $(length dense-unfused))) ]
}

none_fits() {
    evaluate 128 64MiB "$@" --longest-seq >table 2>messages
    [ $? -eq 1 ] && cat table messages && ! grep -q tokens table && grep -q 'no sequence fits' table
}

refuses() {
    evaluate 128 100MiB --longest-seq "$@" >table 2>messages
    [ $? -eq 2 ] && cat messages && [ "$(wc -l <messages)" -eq 1 ]
}

of_another_length() { # a file's layout is of one length
    "$build/dsc-plan" --show-layout fixed --seq-len 128 --num-heads 4 --json >f.json && refuses --attention ./f.json
}

plan 10
ok "dense: that length fits, 128 tokens more do not" is_longest 128 100MiB
ok "bslongformer: that length fits, 128 tokens more do not" is_longest 128 100MiB --attention bslongformer
ok "blocks of 48 divide the length" is_longest 384 100MiB --sparse-attention '{"mode": "fixed", "block": 48}'
ok "stored scores stop far earlier" beats_stored_scores
ok "what software keeps beside the plan is counted" \
    software_counts 128 4GiB --cluster dgx-a100-80g --dp 1 --attention dense-unfused --precision fp16
ok "where none fits it says so" none_fits
ok "lengths too short for a pattern are passed over" \
    is_longest 128 150MiB --sparse-attention '{"mode": "bigbird", "num_random_blocks": 24}'
ok "a pattern whose shortest length does not fit is no failure" \
    none_fits --sparse-attention '{"mode": "bigbird", "num_random_blocks": 24}'
ok "what would be ignored is refused" refuses --trace t.h5
ok "a file of one length has no longest" of_another_length
