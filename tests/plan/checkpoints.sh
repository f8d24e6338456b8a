#!/bin/bash
# Inputs of recomputed layers that are cut over tensor ranks, or wait in host memory: what the plan holds, and whose
# software does so.
. "${srcdir:-.}/tests/tap.sh"

build=$PWD
scratch=$(mktemp -d "${TMPDIR:-/tmp}/dsc-test-XXXXXX")
trap 'rm -rf "$scratch"' EXIT
cd "$scratch" || exit 3

# Of 32 layers, 8 sequences of 1,024 tokens and 1,024 columns in 16 bits, a layer's input is 16 MiB.
plan_of() {
    "$build/dsc-plan" --model layers=32,hidden=1024,heads=16,vocab=1024,seq=1024 --cluster dgx1-v100-32g --tp 4 --dp 1 \
        --micro-batch 8 --precision fp16 --recompute full --json "$@"
}

# mib SPACE OPTION...: the arena's peak
mib() {
    local space=$1
    shift
    plan_of "$@" | python3 -c "import json, sys; print(json.load(sys.stdin)['$space']['arena_bytes'] / 2**20)"
}

# between LOW X HIGH
between() { awk -v l="$1" -v x="$2" -v h="$3" 'BEGIN { print x; exit !(l <= x && x <= h) }'; }
less() { awk -v a="$1" -v b="$2" 'BEGIN { print a - b }'; }

# 32 inputs of 16 MiB become 32 of 4, beside two or three whole ones of a pass.
is_cut() { between 320 "$(less "$(mib memory)" "$(mib memory --activation-checkpoints cut)")" 384; }

# The parts too are gone, up to two that are on their way, and are in the host's memory.
is_away() {
    local cut host
    cut=$(mib memory --activation-checkpoints cut) host=$(mib memory --activation-checkpoints host)
    between 112 "$(less "$cut" "$host")" 128 && between 128 "$(mib host_memory --activation-checkpoints host)" 129
}

is_cut_already() { # where the sequence is
    local whole cut
    whole=$(mib memory --sequence-parallel) cut=$(mib memory --sequence-parallel --activation-checkpoints cut)
    between 0 "$(less "$whole" "$cut")" 0
}

by_key() {
    echo '{"activation_checkpointing": {"partition_activations": true, "cpu_checkpointing": true}}' >ds.json
    diff <(plan_of --config ds.json) <(plan_of --activation-checkpoints host)
}

needs_recomputation() {
    plan_of --activation-checkpoints cut --recompute none >out 2>err || return
    [ "$(grep -c "only where recompute is full" err)" -eq 1 ] && diff out <(plan_of --recompute none)
}

# as_deepspeed WORD OPTION...
as_deepspeed() {
    local word=$1
    shift
    plan_of --attention dense-unfused --dp 2 "$@" | grep -q "\"activation_checkpoints\": \"$word\""
}

plan 8
ok "a layer's input is cut over tensor ranks" is_cut
ok "its parts wait in host memory" is_away
ok "sequence parallelism has cut it already" is_cut_already
ok "DeepSpeed's keys say the same" by_key
ok "without full recomputation there is nothing to cut, which is said" needs_recomputation
ok "DeepSpeed's ZeRO 3 keeps them in host memory" as_deepspeed host --zero 3
ok "what is given goes before what software does" as_deepspeed whole --zero 3 --activation-checkpoints whole
ok "its ZeRO 2 does not" as_deepspeed whole --zero 2
