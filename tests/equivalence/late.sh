#!/bin/bash
# Weights that are gathered beside the next step's passes are those that are gathered behind the update: losses, norms,
# evaluations and all that is saved have the same bits; so has what either goes on with from the other's checkpoint.
. "${srcdir:-.}/tests/exec/job.sh" || exit 3

# go LOG SAVE RANKS OPTIONS: 6 steps; evaluations and a checkpoint come between updates
go() {
    train "$3" --steps 6 --log "$1" --save "$2" --save-every 3 --eval-data text.txt --eval-every 2 \
        --model layers=4,hidden=40,heads=4,vocab=131,seq=24 "${@:4}" >/dev/null && [ "$(wc -l <"$1")" -eq 6 ]
}

# All that a log says of the training, and where each rank's memory ends
curves() {
    local key
    for key in loss grad_norm eval_loss lr skipped loss_scale peak_device_bytes peak_host_bytes; do
        column $key "$1"
    done
}

same() { # SAVE SAVE LOG LOG
    diff <(curves "$3") <(curves "$4") &&
        "$build/dsc-checkpoint" diff "$1/step-00000006" "$2/step-00000006"
}

# The other way of gathering goes on from each's step 3; the log begins with that one's first steps.
goes_on() { # RANKS OPTIONS
    head -n 3 late >late.on
    head -n 3 whole >whole.on
    go late.on save.late.on "$@" --resume save.late/step-00000003 &&
        go whole.on save.whole.on "$@" --late-gather --resume save.whole/step-00000003 &&
        same save.whole save.late.on whole late.on && same save.whole save.whole.on whole whole.on
}

equal() { # RANKS OPTIONS
    rm -rf save.* late late.on whole whole.on
    go whole save.whole "$@" && go late save.late "$@" --late-gather && same save.whole save.late whole late &&
        goes_on "$@"
}

# Evaluations read what they gather themselves: as often as they are, as many bytes more are sent.
gathers_for_evaluations() {
    column wire_bytes late | awk '{ bytes[NR] = $1 } END { exit !(bytes[2] > bytes[1] && bytes[3] == bytes[1]) }'
}

layouts=("2 --dp 2 --micro-batch 2 --zero 1"
    "2 --dp 2 --micro-batch 8 --zero 1 --precision bf16 --bucket-size 5000 --prefetch 0"
    "3 --dp 3 --micro-batch 1 --zero 2 --precision fp16 --initial-scale-power 26 --bucket-size 3000 --global-batch 12"
    "2 --dp 2 --micro-batch 2 --zero 2 --bucket-size 5000 --prefetch 3 --recompute full"
    "4 --tp 2 --dp 2 --micro-batch 2 --zero 1 --precision bf16 --sequence-parallel"
    "4 --pp 2 --dp 2 --micro-batch 2 --zero 1 --precision bf16 --schedule zb-h1"
    "4 --pp 2 --dp 2 --micro-batch 2 --zero 2 --virtual-stages 2 --bucket-size 5000"
    "8 --tp 2 --pp 2 --dp 2 --micro-batch 2 --zero 1 --virtual-stages 2 --precision bf16 --gradient-clipping 0.5")
plan $((${#layouts[@]} + 1))
for layout in "${layouts[@]}"; do
    # shellcheck disable=SC2086
    ok "the same bits, gathered late: n=$layout" equal $layout
done
ok "evaluations gather what they read" gathers_for_evaluations
