#!/bin/bash
# The executor over a device with queues, which run what they are given later (threads.c), and communication by way of
# the host's memory: both train as ranks on CPUs do, bit for bit.
. "${srcdir:-.}/tests/exec/job.sh" || exit 3

model=layers=4,hidden=40,heads=4,vocab=131,seq=24
layouts=(
    "1 --micro-batch 4"
    "1 --micro-batch 2 --offload params --bucket-size 3000"
    "1 --micro-batch 4 --precision bf16 --offload optimizer --delay-update 2"
    "2 --micro-batch 2 --bucket-size 3000"
    "2 --zero 3 --offload params --micro-batch 2 --bucket-size 3000"
    "2 --zero 2 --offload optimizer --offload-ratio 0.5 --micro-batch 2 --bucket-size 5000"
    "2 --zero 1 --late-gather --micro-batch 2 --bucket-size 5000"
    "2 --tp 2 --micro-batch 4 --recompute full --activation-checkpoints host --sequence-parallel"
    "2 --pp 2 --micro-batch 2 --schedule zb-h1 --recompute selective"
    "2 --pp 2 --micro-batch 2 --virtual-stages 2 --keep-outputs"
    "2 --micro-batch 4 --optimizer onebit-adam --freeze-step 10 --lr 1e-4"
    "2 --micro-batch 4 --optimizer zero-one-adam --var-freeze-step 10 --lr 1e-4"
    "4 --tp 2 --pp 2 --micro-batch 2 --scatter-messages --attention dense-unfused"
    "4 --tp 2 --dp 2 --optimizer onebit-lamb --freeze-step 5 --micro-batch 4"
    "4 --pp 2 --dp 2 --zero 2 --micro-batch 2 --precision fp16 --initial-scale-power 26 --loss-scale-window 4"
)

# Beside times, staged steps copy more and need other memory
told() { timeless "$1" | sed 's/"copy_[a-z]*_bytes":[^,]*,//g; s/"peak_[a-z]*_bytes":[^]]*],//g'; }

# twin RANKS OPTIONS: what the threads' device makes of it: log.threads, save.threads
twin() {
    local ranks=$1
    shift
    launch "$ranks" tests/device/dsc-run --model "$model" --data text.txt --global-batch 16 --steps 20 \
        --log log.threads --save save.threads "$@" >/dev/null
}

trains() { # RANKS OPTIONS: where there are several, what they send goes by way of the host's memory
    local ranks=$1 how=direct status
    shift
    [ "$ranks" -eq 1 ] || how=staged
    learn log "$ranks" --model "$model" --save save "$@" && twin "$ranks" --communication $how "$@" &&
        diff <(told log) <(told log.threads) &&
        "$build/dsc-checkpoint" diff save/step-00000020 save.threads/step-00000020
    status=$?
    rm -rf save save.threads
    return $status
}

copies() { # staged ranks copy out and in what they sum, which is a gradient for each parameter
    train 2 --model "$model" --micro-batch 8 --steps 1 --communication staged --log log >/dev/null &&
        [ "$(column copy_out_bytes log)" -ge $((4 * 80000)) ] && [ "$(column copy_in_bytes log)" -ge $((4 * 80000)) ]
}

# Ops are where events were: in their step, in order in their lane
traced() {
    launch 2 tests/device/dsc-run --model "$model" --data text.txt --global-batch 16 --micro-batch 2 --steps 4 \
        --zero 2 --offload optimizer --communication staged --trace t.h5 >/dev/null &&
        "$build/dsc-trace" export t.h5 -o t.csv && awk -F, '
            NR == 1 { for (i = 1; i <= NF; i++) at[$i] = i; next }
            { key = $at["rank"] " " $at["lane"]; from = $at["t_start_ns"]; to = $at["t_end_ns"] }
            to < from { print "ends before it starts: " $0; bad = 1 }
            $at["lane"] ~ /compute|copy/ && $at["kind"] != "unattributed" { n++; rows[key] = rows[key] " " from "," to }
            END {
                for (key in rows) {
                    count = split(rows[key], row, " "); last = 0
                    for (i = 1; i <= count; i++) {
                        split(row[i], t, ",")
                        if (t[1] < last) { print key ": overlaps the one before"; bad = 1 }
                        last = t[2]
                    }
                }
                exit bad || n < 100
            }' t.csv
}

resumes() { # a checkpoint of one is gone on from by the other
    twin 1 --micro-batch 4 && rm -f log.* && launch 1 dsc-run --model "$model" --data text.txt --global-batch 16 \
        --micro-batch 4 --steps 24 --save save.threads --resume auto --log log.a >/dev/null &&
        train 1 --model "$model" --micro-batch 4 --steps 24 --log log.b >/dev/null &&
        diff <(timeless log.a) <(timeless log.b | tail -4)
}

refused() { # WORD OPTIONS: with status 2 and one line that has it
    local word=$1 text
    shift
    text=$(launch 2 dsc-run --model "$model" --data text.txt --steps 1 "$@" 2>&1)
    [ $? -eq 2 ] && [ "$(wc -l <<<"$text")" -eq 1 ] && [[ $text == *"$word"* ]] || { echo "$text"; false; }
}

has_gpu() { [ -e /dev/nvidia0 ]; }

plan $((${#layouts[@]} + 5))
for layout in "${layouts[@]}"; do
    # shellcheck disable=SC2086
    ok "a device with queues trains as a CPU: n=$layout" trains $layout
done
ok "staged gradients are copied out and in" copies
ok "traced ops of queues are in order, and end after they start" traced
ok "a checkpoint of a device with queues is one like any other" resumes
ok "a device that is none is refused" refused "none of cpu, cuda, auto" --device tpu
if has_gpu; then skip "a machine without GPUs says so" "there is one"; else
    ok "a machine without GPUs says so" refused "CUDA" --device cuda
fi
