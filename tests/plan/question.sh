#!/bin/bash
# dsc-plan answers one question: options that do not go with it are refused by name, values are not empty, a table of
# trainings takes an option or refuses it, and what cannot be written is known before the work, or ends with status 3.
. "${srcdir:-.}/tests/tap.sh"

build=$PWD
scratch=$(mktemp -d "${TMPDIR:-/tmp}/dsc-test-XXXXXX")
trap 'rm -rf "$scratch"' EXIT
cd "$scratch" || exit 3

gpt2=(--model gpt2 --cluster dgx-a100-80g)
columns=layers,hidden,heads,seq,vocab,gpu,gpus_total,gpus_per_node,tp,pp,dp,micro_batch,global_batch,precision
row=12,768,12,1024,50257,A100-SXM4-80GB,8,8,1,1,8,4,64,bf16
printf '%s\n' "$columns" "$row" >in.csv

# ends STATUS TEXT WORDS...: nothing on standard output, one line on the other, which holds the text
ends() {
    local expected=$1 text=$2
    shift 2
    "$build/dsc-plan" "$@" >stdout 2>stderr
    [ $? -eq "$expected" ] && [ ! -s stdout ] && [ "$(wc -l <stderr)" -eq 1 ] && grep -qF -- "$text" stderr && return
    echo "$*: $(cat stderr)"
    return 1
}

empty_values() {
    local option
    for option in model cluster config calibration html trace trace-ranks emit show-layout svg batch stack tokens \
        deadline attention sparse-attention rank-order; do
        ends 2 "--$option: the value is empty" "${gpt2[@]}" --$option '' &&
            ends 2 "--$option: the value is empty" "${gpt2[@]}" --$option= || return
    done
    ends 2 '-o: the value is empty' --batch in.csv -o ''
}

# Each question with each option that others take
company() {
    local question option
    for question in --list-models --list-stacks '--show-layout fixed' '--batch in.csv' --search --smallest-cluster \
        --largest-model --what-if --break-even --longest-seq; do
        for option in --check --explain '--trace t.h5' '--trace-ranks 0' '--eval-every 2' '--emit plan'; do
            # shellcheck disable=SC2086 # words
            ends 2 "${question%% *} goes without ${option%% *}" $question $option || return
        done
    done
}

alone() {
    ends 2 '--top is for --search' "${gpt2[@]}" --top 3 && ends 2 '-o is for --batch' "${gpt2[@]}" -o out.csv &&
        ends 2 '--svg is for --show-layout' "${gpt2[@]}" --svg l.svg &&
        ends 2 '--deadline is for --smallest-cluster' "${gpt2[@]}" --deadline 30d
}

two_questions() {
    ends 2 '--search and --batch are two questions' --search --batch in.csv &&
        ends 2 '--longest-seq and --what-if are two questions' "${gpt2[@]}" --what-if --longest-seq &&
        "$build/dsc-plan" "${gpt2[@]}" --no-search --json | grep -q '"feasible": true'
}

refuses_for_tables() {
    ends 2 'unknown --stack "nope"' --batch in.csv --stack nope && ends 2 'no.h5' --batch in.csv --calibration no.h5 &&
        ends 2 '--gradient-accumulation-steps 2 follows' --batch in.csv --gradient-accumulation-steps 2 &&
        ends 2 '--offload-ratio auto' --batch in.csv --offload-ratio auto
}

# cells OPTIONS...: of the row
cells() { "$build/dsc-plan" --batch in.csv "$@" | tail -n 1; }

differs() { [ -n "$(cells)" ] && [ "$(cells)" != "$(cells "$@")" ]; }

takes_for_tables() {
    differs --stack dsc && differs --zero 3 && differs --recompute full && differs --attention dense-unfused &&
        differs --device-memory 2GiB && differs --recompute full --recompute-layers 3 || return
    cells --recompute none | grep -v 'not given' && [ "$(cells --seq-len 512)" = "$(cells)" ] &&
        [ "$(cells --tp 4)" = "$(cells)" ]
}

# written STATUS REASON PATH: for all files that are written
written() {
    ends "$1" "$2" "${gpt2[@]}" --html "$3" && ends "$1" "$2" "${gpt2[@]}" --trace "$3" &&
        ends "$1" "$2" --batch in.csv -o "$3" && ends "$1" "$2" --show-layout fixed --svg "$3"
}

full_stdout() {
    local words
    while read -r words; do
        # shellcheck disable=SC2086 # words
        "$build/dsc-plan" $words >/dev/full 2>stderr
        [ $? -eq 3 ] && [ "$(grep -v ' screened in ' stderr)" ] && [ "$(grep -vc ' screened in ' stderr)" -eq 1 ] &&
            grep -q 'standard output.*cannot\|standard output cannot' stderr && continue
        echo "$words: $(cat stderr)"
        return 1
    done <<'END'
--model gpt2 --cluster dgx-a100-80g
--model gpt2 --cluster dgx-a100-80g --json
--model gpt2 --cluster dgx-a100-80g --html -
--model gpt2 --cluster dgx-a100-80g --search --global-batch 8 --tp 1 --pp 1 --json
--model gpt2 --cluster dgx-a100-80g --what-if
--model gpt2 --cluster dgx-a100-80g --longest-seq --json
--cluster dgx-a100-80g --explain
--batch in.csv
--batch in.csv -o -
--show-layout fixed --svg -
--show-layout fixed --json
--list-models
--list-clusters --json
--list-stacks --json
--help
END
}

plan 11
ok "no option takes an empty value" empty_values
ok "what a question has no use for is refused by name" company
ok "an option without its question is refused" alone
ok "two questions are one too many, and one that is taken back is none" two_questions
ok "a table refuses what no row could be evaluated with" refuses_for_tables
ok "a table takes what rows do not say, and what they say goes before it" takes_for_tables
ok "a file in no folder is bad input" written 2 'no/folder/f' no/folder/f
ok "a folder is no file" written 2 "$scratch" "$scratch"
ok "a file that is full is a failure" written 3 '/dev/full: cannot write: No space left' /dev/full
ok "standard output that is full is a failure, said once" full_stdout
ok "lists are arrays of JSON" eval "'$build/dsc-plan' --list-stacks --json | /usr/bin/python3 -m json.tool"
