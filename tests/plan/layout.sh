#!/bin/bash
# dsc-plan --show-layout: text, JSON and a picture of one layout; a file that it wrote is read back.
. "${srcdir:-.}/tests/tap.sh"

build=$PWD
scratch=$(mktemp -d "${TMPDIR:-/tmp}/dsc-test-XXXXXX")
trap 'rm -rf "$scratch"' EXIT
cd "$scratch" || exit 3

show() { "$build/dsc-plan" --show-layout "$@"; }

is_drawn() { show fixed --seq-len 128 >text && [ "$(tail -n +2 text | head -n 2)" = $'####...#\n####...#' ]; }

# The number of present blocks is one in all forms
agrees() {
    show "$1" --seq-len 512 --num-heads 2 --json >layout.json && show "$1" --seq-len 512 --num-heads 2 >text &&
        show "$1" --seq-len 512 --num-heads 2 --svg layout.svg && grep -q '<svg .*>' layout.svg || return
    [ "$(grep -o '\b1\b' layout.json | wc -l)" -eq $((2 * $(tail -n +2 text | tr -cd '#' | wc -c))) ]
}

reads_back() {
    show bslongformer --seq-len 256 --num-heads 3 --json >a.json && show ./a.json --json >b.json && cmp a.json b.json &&
        show ./a.json --num-heads 3 --seq-len 256 >/dev/null
}

section() {
    echo '{"train_batch_size": 8, "sparse_attention": {"mode": "variable", "block": 32}}' >c.json
    show ./c.json --seq-len 256 | grep -q '8 x 8 blocks of 32'
}

# refuses PATTERN WORDS...: exit status 2, and one line
refuses() {
    local pattern=$1 status
    shift
    show "$@" >lines 2>messages
    status=$?
    cat messages
    [ $status -eq 2 ] && [ "$(wc -l <messages)" -eq 1 ] && [[ $(<messages) =~ $pattern ]]
}

plan 12
ok "a layout is printed block by block" is_drawn
for name in dense fixed variable bigbird bslongformer; do ok "$name: text, JSON and picture agree" agrees $name; done
ok "a layout file reads back" reads_back
ok "a configuration's sparse_attention is shown" section
ok "an unknown mode is refused with those that there are" refuses '--show-layout x: there are .*bigbird' x
ok "a sequence that the block does not divide is refused" refuses '100 .*blocks of 16' fixed --seq-len 100
ok "a file of other heads is refused with both numbers" refuses '3 heads, the model has 4' ./a.json --num-heads 4
ok "a file of another length is refused with both numbers" \
    refuses '256 tokens, the sequence has 512' ./a.json --seq-len 512
