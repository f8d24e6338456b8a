#!/bin/bash
# dsc-plan --batch: a table comes back with its rows, order, columns and bytes, and in each row a prediction or a
# reason.
. "${srcdir:-.}/tests/tap.sh"

build=$PWD
source=$(cd "$srcdir" && pwd)
scratch=$(mktemp -d "${TMPDIR:-/tmp}/dsc-test-XXXXXX")
trap 'rm -rf "$scratch"' EXIT
cd "$scratch" || exit 3

head=row_id,layers,hidden,heads,seq,vocab,gpu,gpu_mem_GB,gpus_total,gpus_per_node,tp,pp,dp,micro_batch,global_batch
head=$head,precision,recompute,flash_attn,notes
gpt2="12,768,12,1024,50257,A100-SXM4-80GB,80,8,8,1,1,8,4,64"
gpt3="96,12288,96,2048,51200,A100-SXM4-80GB,80,8,8,8,1,1,1,8"

# value ROW COLUMN: of out.csv, rows from 1
value() {
    /usr/bin/python3 -c 'import csv, sys; print(list(csv.DictReader(open("out.csv", newline="", encoding="utf-8-sig")))[
        int(sys.argv[1]) - 1][sys.argv[2]])' "$@"
}

# evaluates LINE...: the table of these rows
evaluates() {
    printf '%s\n' "$head" "$@" >in.csv
    "$build/dsc-plan" --batch in.csv -o out.csv
}

# What was there stands before each line's added cells. Lines here hold no line ends in quotes.
keeps_all() {
    printf '\357\273\277%s,"a ""b"",c"\r\n' "$head" >in.csv
    printf '%s\r\n' "z,$gpt2,bf16,none,1,\"x,  \"\"y\"\"\",\"\"" "" "a,$gpt3,bf16,none,1,," >>in.csv
    "$build/dsc-plan" --batch in.csv -o out.csv || return
    [ "$(wc -l <in.csv)" -eq "$(wc -l <out.csv)" ] || return
    paste -d '\n' in.csv out.csv | tr -d '\r' | awk 'NR % 2 { was = $0; next } index($0, was) != 1 { exit 1 }' || return
    head -1 out.csv | grep -q ',predicted_step_time_s,predicted_tflops_per_gpu,predicted_memory_GB,feasible,reason.$' &&
        [ "$(grep -c $'\r$' out.csv)" -eq 4 ] && [ "$(value 1 'a "b",c')" = "" ] && [ "$(value 2 row_id)" = a ]
}

is_idempotent() {
    cp out.csv once.csv
    "$build/dsc-plan" --batch once.csv -o twice.csv && cmp once.csv twice.csv &&
        "$build/dsc-plan" --batch - <once.csv >piped.csv && cmp once.csv piped.csv &&
        "$build/dsc-plan" --batch once.csv -o once.csv && cmp once.csv twice.csv
}

# The same figures as a command line's
equals_a_command() {
    evaluates "x,$gpt2,bf16,full,0," || return
    "$build/dsc-plan" --model layers=12,hidden=768,heads=12,vocab=50257,seq=1024 --cluster dgx-a100-80g \
        --micro-batch 4 --global-batch 64 --precision bf16 --recompute full --attention dense-unfused --json \
        >plan.json || return
    /usr/bin/python3 - "$(value 1 predicted_step_time_s)" "$(value 1 predicted_tflops_per_gpu)" \
        "$(value 1 predicted_memory_GB)" <<'END'
import json, sys
plan, step, tflops, memory = json.load(open("plan.json")), *map(float, sys.argv[1:])
assert step == plan["time"]["step_s"] and abs(tflops / plan["tflops_per_gpu"] - 1) < 1e-5, plan
assert abs(memory * 1e9 / plan["memory"]["peak_bytes"] - 1) < 1e-5, plan
END
    [ "$(value 1 feasible)" = true ] && [ -z "$(value 1 reason)" ]
}

counts_in_gib() {
    evaluates "x,$gpt2,bf16,full,0,max reserved" "y,$gpt2,bf16,full,0,GiB max reserved" || return
    awk -v gb="$(value 1 predicted_memory_GB)" -v gib="$(value 2 predicted_memory_GB)" \
        'BEGIN { d = gb * 1e9 / gib / 2 ^ 30 - 1; exit !(d < 1e-5 && d > -1e-5) }'
}

# A rank's shard of gpt3's states, 16 bytes a parameter, is 350 GB.
calls_infeasible() {
    evaluates "x,$gpt3,bf16,full,1," || return
    [ "$(value 1 feasible)" = false ] && value 1 reason | grep -E 'needs [0-9.]+ GiB .* a rank has 79\.[0-9]+ GiB' &&
        awk -v gb="$(value 1 predicted_memory_GB)" 'BEGIN { exit !(gb > 300) }'
}

# chunks GPU BATCH CELLS: how many chunks a stage are taken for a row that does not give them: 8 layers on 2 stages
chunks() {
    printf '%s\n' "${head/,notes/},virtual_pp,inferred_fields" \
        "x,8,2048,16,1024,1000,$1,80,8,8,1,2,4,1,$2,bf16,none,$3" >in.csv
    "$build/dsc-plan" --batch in.csv -o out.csv && [ "$(value 1 feasible)" = true ] &&
        value 1 reason | sed -n 's/.*virtual_pp not given: \([0-9]*\) taken.*/\1/p'
}

# micro_batch GPU ZERO CELLS: which is taken for a row that does not give it: 64 sequences in 4 replicas of 2 stages
micro_batch() {
    printf '%s\n' "${head/,notes/},zero_stage,inferred_fields" \
        "x,8,2048,16,1024,1000,$1,80,8,8,1,2,4,1,64,bf16,none,$2,$3" >in.csv
    "$build/dsc-plan" --batch in.csv -o out.csv && [ "$(value 1 feasible)" = true ] &&
        value 1 reason | sed -n 's/.*micro_batch not given: \([0-9]*\) taken.*/\1/p'
}

# FSDP's pipelines have as many micro-batches as stages; what is printed stays, and so does Megatron's.
cuts_what_is_not_printed() {
    [ "$(micro_batch H100-SXM5-80GB '1,3' 'micro_batch under PP')" = 8 ] &&
        [ -z "$(micro_batch H100-SXM5-80GB '1,3' virtual_pp)" ] &&
        [ -z "$(micro_batch H100-SXM5-80GB '1,1' 'micro_batch under PP')" ] &&
        [ -z "$(micro_batch A100-SXM4-80GB '1,3' 'micro_batch under PP')" ]
}

# Who overlaps messages interleaves, where the source does not say how; in 3 micro-batches nobody can.
interleaves_what_is_not_printed() {
    [ "$(chunks H100-SXM5-80GB 16 '1,1,micro_batch virtual_pp')" = 4 ] &&
        [ "$(chunks H100-SXM5-80GB 16 '1,,dp virtual_pp (not said)')" = 4 ] &&
        [ -z "$(chunks H100-SXM5-80GB 16 '1,1,micro_batch')" ] &&
        [ -z "$(chunks H100-SXM5-80GB 16 '1,2,virtual_pp')" ] &&
        [ -z "$(chunks H100-SXM5-80GB 12 '1,1,virtual_pp')" ] &&
        [ -z "$(chunks A100-SXM4-80GB 16 '0,1,virtual_pp')" ]
}

# Kept activations of 24 layers take 1.7 GB a sequence: 64 fit with some recomputation only, 4096 do not.
takes_least_recomputation() {
    local many="24,2048,16,1024,1000,A100-SXM4-80GB,80,8,8,1,1,8"
    evaluates "w,$gpt2,bf16,,1," "x,$many,64,512,bf16,none,1," "y,$many,64,512,bf16,,1," \
        "z,$many,4096,32768,bf16,,1," || return
    value 1 reason | grep 'none taken' && [ "$(value 2 feasible)" = false ] && [ "$(value 3 feasible)" = true ] &&
        value 3 reason | grep -E 'full of [1-9][0-9]* layers a chunk taken, the least that fits' &&
        [ "$(value 4 feasible)" = false ] && value 4 reason | grep 'full taken'
}

# Rows that cannot be evaluated say why, have no figures, and leave the others alone.
gives_reasons() {
    local i words=("missing: seq, dp" "layers.*many" "128 experts|ep" "gpus_total 16" "TPUv4" "precision.*fp3"
        "unknown --stack" "micro-batch 3 x dp 8")
    head="$head,ep,stack" evaluates "1,12,768,12,,50257,A100-SXM4-80GB,80,8,8,1,1,,4,64,bf16,none,1,,," \
        "2,many${gpt2#12},bf16,none,1,,," "3,$gpt2,bf16,none,1,,128," "4,${gpt2/,80,8,8/,80,16,8},bf16,none,1,,," \
        "5,${gpt2/A100-SXM4-80GB/TPUv4-32GB},bf16,none,1,,," "6,$gpt2,fp3,none,1,,," "7,$gpt2,bf16,none,1,,,x" \
        "8,${gpt2/,8,4,64/,8,3,64},bf16,none,1,,," "9,$gpt2,bf16,none,1,,1,auto" || return
    for i in 1 2 3 4 5 6 7 8; do
        value $i reason | grep -E "${words[i - 1]}" || { value $i reason; return 1; }
        [ -z "$(value $i predicted_step_time_s)$(value $i predicted_memory_GB)$(value $i feasible)" ] || return
    done
    [ "$(value 9 feasible)" = true ]
}

# A GPU of another memory than its presets has that much, and says so.
adapts_gpus() {
    evaluates "1,${gpt2/A100-SXM4-80GB,80/A100-SXM4-80GB,2},bf16,none,1," \
        "2,${gpt2/A100-SXM4-80GB,80/GB200-186GB,186},bf16,none,1," || return
    [ "$(value 1 feasible)" = false ] && value 1 reason | grep 'gpu taken as a100-[48]0g of 2 GB' &&
        value 1 reason | grep 'a rank has 1.97 GiB' && [ "$(value 2 feasible)" = true ] &&
        ! value 2 reason | grep 'gpu taken'
}

# refuses PATTERN FILE OPTION...: one line, status 2, nothing on standard output
refuses() {
    local pattern=$1 file=$2
    shift 2
    "$build/dsc-plan" --batch "$file" "$@" >stdout 2>stderr
    [ $? -eq 2 ] && [ ! -s stdout ] && [ "$(wc -l <stderr)" -eq 1 ] && grep -E "$pattern" stderr && return
    cat stderr
    return 1
}

refuses_files() {
    printf 'name,age\nx,1\n' >columns.csv
    printf '%s\n' "$head" "x,$gpt2,bf16,\"none,1," >quote.csv
    printf '%s\n' "$head" "x,$gpt2,bf16" >short.csv
    refuses 'columns\.csv:1:1: .*layers, hidden.*precision' columns.csv && refuses 'quote\.csv:2:6[0-9]: ' quote.csv &&
        refuses 'short\.csv:2:[0-9]+: 16 cells' short.csv && refuses 'nowhere\.csv' nowhere.csv &&
        refuses 'no/folder' in.csv -o no/folder/out.csv && refuses 'leave out --model' in.csv --model gpt2 &&
        refuses 'goes without --json' in.csv --json
}

# The head has no zero_stage.
takes_options() {
    evaluates "x,$gpt2,bf16,full,1," && value 1 predicted_memory_GB >whole &&
        "$build/dsc-plan" --batch in.csv --zero 3 -o out.csv && value 1 predicted_memory_GB >cut &&
        awk -v whole="$(cat whole)" -v cut="$(cat cut)" 'BEGIN { exit !(cut < 0.9 * whole) }' &&
        refuses 'offload-ratio auto' in.csv --offload-ratio auto
}

takes_published() {
    "$build/dsc-plan" --batch "$source/tests/published/data/sc21_table1_megatron_a100.csv" -o out.csv &&
        [ "$(grep -c ',true,' out.csv)" -eq 10 ]
}

plan 13
ok "rows, order, columns, quotes, line ends and empty lines stay" keeps_all
ok "a table that has predictions comes back byte by byte" is_idempotent
ok "a row's figures are those of a command line" equals_a_command
ok "memory is in GiB where the notes say so" counts_in_gib
ok "a row that does not fit says so, with both numbers" calls_infeasible
ok "where recomputation is not given, the least that fits is taken and named" takes_least_recomputation
ok "stages are interleaved where the source does not say and the software would" interleaves_what_is_not_printed
ok "a batch is cut by stages where the source does not say and the software does" cuts_what_is_not_printed
ok "a row that cannot be evaluated has a reason and no figures" gives_reasons
ok "a GPU is as large as its row says" adapts_gpus
ok "a file that cannot be read or lacks columns is refused in one line" refuses_files
ok "a published table is evaluated in full" takes_published
ok "options are what rows do not say" takes_options
