#!/bin/bash
# Whose software: labels, and that a prediction follows what a stack says.
. "${srcdir:-.}/tests/tap.sh"

build=$PWD
scratch=$(mktemp -d "${TMPDIR:-/tmp}/dsc-test-XXXXXX")
trap 'rm -rf "$scratch"' EXIT
cd "$scratch" || exit 3

# seconds STACK HIDDEN OPTION...: the step of a small model on one A100
seconds() {
    local stack=$1 hidden=$2
    shift 2
    "$build/dsc-plan" --model layers=12,hidden=$hidden,heads=8,vocab=1024,seq=128 --cluster dgx-a100-80g:1 --dp 1 \
        --precision fp16 --attention dense-unfused --stack "$stack" --json "$@" |
        sed -n 's/.*"step_s": *\([0-9.e-]*\).*/\1/p' | head -n 1
}

lists_labels() {
    "$build/dsc-plan" --list-stacks >labels || return
    [ "$(cut -d' ' -f1 labels | sort -u | wc -l)" -ge 5 ] && grep -q '^megatron-2021 ' labels && grep -q '^dsc ' labels
}

refuses_others() {
    "$build/dsc-plan" --model gpt2 --cluster dgx-a100-80g:1 --stack megatron-2012 >out 2>err
    [ $? -eq 2 ] && [ ! -s out ] && [ "$(wc -l <err)" -eq 1 ] && grep -q 'did you mean "megatron-2021"' err && return
    cat err
    return 1
}

# The GPU waits for a host that launches slowly, however small its kernels are.
waits_for_the_host() {
    local small large ours
    small=$(seconds megatron-2021 256) large=$(seconds megatron-2021 512) ours=$(seconds dsc 256)
    "$build/dsc-plan" --model gpt2 --cluster dgx-a100-80g:1 --attention dense-unfused --precision fp16 |
        grep '^software   megatron-2021: ' || return
    echo "megatron-2021 $small and $large s, dsc $ours s"
    awk -v s="$small" -v l="$large" -v o="$ours" 'BEGIN { exit !(l < 1.05 * s && l > 0.95 * s && s > 3 * o) }'
}

# Gradients of large kernels are summed when all is over, or beside the passes.
sums_late() {
    local late beside
    late=$(seconds megatron-2021 4096 --dp 8) beside=$(seconds megatron-2021 4096 --dp 8 --bucket-size 1000000)
    echo "late $late s, beside the passes $beside s"
    awk -v l="$late" -v b="$beside" 'BEGIN { exit !(l > 1.02 * b) }'
}

# exposed STACK: seconds of tensor ranks' collectives that nothing hides
exposed() {
    "$build/dsc-plan" --model layers=12,hidden=8192,heads=64,vocab=1024,seq=2048 --cluster hgx-h100:1 --tp 8 --dp 1 \
        --precision bf16 --global-batch 4 --stack "$1" --json |
        sed -n 's/.*"tp_comm_s": *\([0-9.e-]*\).*/\1/p'
}

# Both stacks' links carry 0.82; one moves 0.7 of the bytes beside the products.
hides_collectives() {
    local core fsdp
    core=$(exposed megatron-2024) fsdp=$(exposed fsdp-2025)
    echo "megatron-2024 $core s, fsdp-2025 $fsdp s"
    awk -v c="$core" -v f="$fsdp" 'BEGIN { exit !(c > 0.28 * f && c < 0.45 * f) }'
}

# A stage of 6 layers sends one message and gets one for each of 16 micro-batches: 2.4 ms each where the host waits.
messages_cost_the_host() {
    local stack one two
    for stack in megatron-2021 dsc; do
        one=$("$build/dsc-plan" --model layers=6,hidden=256,heads=8,vocab=1024,seq=128 --cluster dgx-a100-80g:1 --dp 1 \
            --precision fp16 --attention dense-unfused --global-batch 16 --stack $stack --json |
            sed -n 's/.*"step_s": *\([0-9.e-]*\).*/\1/p' | head -n 1)
        two=$(seconds $stack 256 --pp 2 --global-batch 16)
        echo "$stack: $one s on one stage of 6 layers, $two s on two"
        awk -v one="$one" -v two="$two" -v stack=$stack 'BEGIN { more = two - one - one / 16
            exit !(stack == "dsc" ? more < 0.005 : more > 16 * 0.0023 && more < 19 * 0.0026) }' || return
    done
}

# Updated weights that long passes hide cost less than behind the update, and Megatron-Core gathers so.
gathers_late() {
    local late behind
    behind=$(seconds dsc 4096 --dp 8 --zero 1 --micro-batch 8)
    late=$(seconds dsc 4096 --dp 8 --zero 1 --micro-batch 8 --late-gather)
    echo "late $late s, behind the update $behind s"
    awk -v l="$late" -v b="$behind" 'BEGIN { exit !(l < 0.95 * b) }' || return
    "$build/dsc-plan" --model gpt2 --cluster hgx-h100:1 --zero 1 --stack megatron-2024 --json |
        grep -q '"late_gather": true'
}

# part KEY OPTION...: of the time of a small model's step on one A100
part() {
    "$build/dsc-plan" --model layers=12,hidden=1024,heads=8,vocab=1024,seq=128 --cluster dgx-a100-80g:1 --dp 1 \
        --precision bf16 --stack dsc --json "${@:2}" | sed -n "s/.*\"$1\": *\([0-9.e-]*\).*/\1/p"
}

# Copies of gradients are the optimizer's, none of the passes'.
widens_for_the_optimizer() {
    local plain=$(part compute_s) wide=$(part compute_s --widen-gradients)
    local less=$(part optimizer_s) more=$(part optimizer_s --widen-gradients)
    echo "passes $plain and $wide s, optimizer $less and $more s"
    [ "$plain" = "$wide" ] && awk -v l="$less" -v m="$more" 'BEGIN { exit !(m > l) }'
}

# again RECOMPUTE: seconds of a step of stages for which the host's launches set the pace
again() {
    "$build/dsc-plan" --model bert-large --cluster hgx-b200:1 --pp 8 --dp 1 --micro-batch 1 --global-batch 8 \
        --precision bf16 --recompute "$1" --json | sed -n 's/.*"step_s": *\([0-9.e-]*\).*/\1/p'
}

# The host waits for a gradient before it launches what comes after: nothing is won by computing something before.
computes_again_for_nothing() {
    local none=$(again none) selective=$(again selective) full=$(again full)
    echo "none $none s, selective $selective s, full $full s"
    awk -v n="$none" -v s="$selective" -v f="$full" 'BEGIN { exit !(n < s && s < f) }'
}

plan 9
ok "stacks are listed" lists_labels
ok "another label is refused, with the nearest" refuses_others
ok "small kernels wait for the host" waits_for_the_host
ok "gradients are summed late where the software does so" sums_late
ok "updated weights are gathered late where the software does so" gathers_late
ok "collectives of tensor ranks are hidden where the software does so" hides_collectives
ok "a message between stages costs the host" messages_cost_the_host
ok "what is computed again takes longer, also where the host is late" computes_again_for_nothing
ok "gradients that are widened are the optimizer's time" widens_for_the_optimizer
