#!/bin/bash
# dsc-run on a GPU trains as on CPUs: in fp32 to 1e-5, with ranks that share the GPU, with states in host memory, from a
# checkpoint of the other, and twice the same bits.
. "${srcdir:-.}/tests/exec/job.sh" || exit 3

has_gpu() { "$build/dsc-run" --model "$tiny" --data text.txt --steps 1 --device cuda --dry-run >/dev/null 2>&1; }

claims=(
    "1|one GPU trains as one CPU|--micro-batch 4"
    "1|so it does with micro-batches of all|--micro-batch 16"
    "1|with optimizer states in host memory|--micro-batch 4 --offload optimizer --bucket-size 5000"
    "1|with the parameters there, too|--micro-batch 2 --offload params --bucket-size 5000"
    "2|with two ranks on it, of replicas|--micro-batch 4 --bucket-size 5000"
    "2|with two replicas that share their states|--micro-batch 4 --zero 3 --bucket-size 5000"
    "2|with two stages|--pp 2 --micro-batch 2 --schedule zb-h1"
    "2|with two tensor ranks|--tp 2 --sequence-parallel --micro-batch 4 --model layers=2,hidden=48,heads=4,vocab=131,seq=24"
)

plan $((${#claims[@]} + 3))
if ! has_gpu; then
    [[ ${DSC_REQUIRE:-} == *cuda* ]] && { echo "Bail out! DSC_REQUIRE names cuda, and no GPU is found"; exit 1; }
    for claim in "${claims[@]}"; do skip "$(cut -d'|' -f2 <<<"$claim")" "no GPU"; done
    skip "two runs have the same bits" "no GPU"
    skip "a CPU goes on from a GPU's checkpoint" "no GPU"
    skip "traced ops fill the step" "no GPU"
    exit 0
fi

trains() { # RANKS OPTIONS
    local ranks=$1
    shift
    local model=$tiny
    [[ $* != *--model* ]] || model=${*: -1}
    learn one 1 --dp 1 --micro-batch 1 --model "$model" &&
        learn log "$ranks" "$@" --device cuda && near loss 1e-5 log one && near grad_norm 1e-4 log one
}

repeats() {
    local run
    for run in a b; do learn log.$run 1 --micro-batch 4 --precision bf16 --device cuda || return; done
    diff <(timeless log.a) <(timeless log.b)
}

goes_on() {
    train 1 --micro-batch 4 --steps 10 --device cuda --save save >/dev/null &&
        train 1 --micro-batch 4 --steps 20 --save save --resume auto --log log.b >/dev/null &&
        learn one 1 --micro-batch 4 && tail -10 one >one.end && paste <(column loss log.b) <(column loss one.end) |
        awk '{ d = $1 / $2 - 1; if (d < -1e-5 || d > 1e-5) { print; bad = 1 } } END { exit bad || NR != 10 }'
}

# Time outside ops is less than a fifth of the steps, small as they are
fills() {
    train 1 --model layers=4,hidden=512,heads=8,vocab=131,seq=128 --micro-batch 16 --steps 6 --device cuda \
        --trace t.h5 >/dev/null && "$build/dsc-trace" summary t.h5 |
        awk '$2 == "unattributed" { share = $5 } END { print share " %"; exit !(share < 20) }'
}

for claim in "${claims[@]}"; do
    IFS='|' read -r ranks name options <<<"$claim"
    # shellcheck disable=SC2086
    ok "$name" trains "$ranks" $options
done
ok "two runs have the same bits" repeats
ok "a CPU goes on from a GPU's checkpoint" goes_on
ok "traced ops fill the step" fills
