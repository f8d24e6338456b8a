#!/bin/bash
# What dsc-plan says of ZeRO and offload: ledgers of both memories, buckets that shrink to what fits, the ratio that it
# finds.
. "${srcdir:-.}/tests/tap.sh"

build=$PWD
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cd "$scratch" || exit 3

# evaluates OPTION...: dsc-plan of a GPT-2 in bf16 on A100 GPUs, --json to result, messages to notes
evaluates() {
    "$build/dsc-plan" --model gpt2 --cluster dgx-a100-80g --precision bf16 --micro-batch 1 --json "$@" >result 2>notes
}

# The last result is an object d of which the expression holds.
holds() { /usr/bin/python3 -c "import json; d = json.load(open('result')); assert $1, d"; }

shows_strategy() {
    evaluates --zero 2 --offload optimizer --delay-update 3 --prefetch 2 --bucket-size 70000 &&
        holds '{k: d["strategy"][k] for k in ("zero", "offload", "offload_ratio", "delay_update", "prefetch",
            "bucket_size")} == {"zero": 2, "offload": "optimizer", "offload_ratio": 1, "delay_update": 3, "prefetch": 2,
            "bucket_size": 70000}' &&
        holds '[p["name"] for p in d["paths"]] == ["delayed", "gradients", "delayed/update", "gradients/update"]' &&
        holds 'd["time"]["step_s"] == d["paths"][0]["step_s"]'
}

# Of every stage and kind of offload both ledgers sum to their peaks, and the states are where they should be.
sums_up() {
    local zero offload pp
    for zero in 0 1 2 3; do
        for offload in none optimizer params; do
            for pp in 1 2; do
                [ $offload = params ] && { [ $zero = 1 ] || [ $zero = 2 ]; } && continue
                evaluates --zero $zero --offload $offload --pp $pp --global-batch 16 || return
                holds 'all(sum(m[k + "_bytes"] for k in ("parameters", "gradients", "optimizer", "activations",
                    "buffers", "libraries")) == m["peak_bytes"] == m["arena_bytes"] + m["libraries_bytes"]
                    for m in (d["memory"], d["host_memory"]))' || return
                holds "(d['memory']['optimizer_bytes'] == 0) == ('$offload' != 'none')" || return
                holds "(d['host_memory']['optimizer_bytes'] > 10 ** 7) == ('$offload' != 'none')" || return
                holds "(d['time']['offload_s'] > 0) == ('$offload' != 'none')" || return
            done
        done
    done
}

# What ZeRO cuts it cuts: optimizer, then gradients, then parameters, eightfold.
cuts_states() {
    local zero
    for zero in 0 1 2 3; do
        evaluates --zero $zero --dp 8 --explain || return
        "$build/dsc-plan" --model gpt2 --cluster dgx-a100-80g --precision bf16 --zero $zero --explain |
            awk '/^Kept/ { found = NR } NR == found + 3 && found { print $3, $4, $5, $6, $7 }' >>kept
    done
    /usr/bin/python3 -c '
rows = [[int(x) for x in line.split()] for line in open("kept")]
p = rows[0][0]
near = lambda x, y: abs(x - y) <= 0.01 * y
assert near(rows[0][0], 2 * 124.4e6) and near(rows[0][1], p) and rows[0][2] == 0 and near(rows[0][4], 2 * p), rows
assert near(rows[1][0], p) and near(rows[1][4], 2 * p / 8), rows
assert rows[2][1] == 0 and near(rows[2][2], p / 8) and near(rows[2][0], p), rows
assert near(rows[3][0], p / 8) and near(rows[3][4], 2 * p / 8), rows'
}

explains() {
    "$build/dsc-plan" --model gpt2 --cluster dgx-a100-80g --precision bf16 --zero 3 --offload params --stack dsc \
        --explain >text &&
        grep -q '^states .*ZeRO 3, in 8 parts; parameters and the optimizer.s in host memory' text &&
        grep -q '^states .* fetched 1 bucket' text &&
        grep -q '^Buckets of at least [0-9]* elements' text && grep -q 'host memory$' text &&
        [ "$(grep -cE '^ *0 +(device|host) ' text)" -eq 4 ]
}

# With less memory than the default needs, buckets are halved until it fits; the size said fits by itself, with one byte
# less it does not.
shrinks() {
    local options=(--dp 1 --offload params --recompute full) peak size
    evaluates "${options[@]}" && [ ! -s notes ] && holds 'd["strategy"]["bucket_size"] == 1 << 22' || return
    peak=$(sed -n '/"memory"/,/}/s/.*"peak_bytes": \([0-9]*\).*/\1/p' result)
    evaluates "${options[@]}" --device-memory $((peak - 1)) || return
    size=$(sed -n 's/.*"bucket_size": \([0-9]*\).*/\1/p' result)
    grep -q "buckets of $size elements instead of 4194304, so that it fits" notes &&
        holds 'd["feasible"] and d["strategy"]["bucket_size"] < 1 << 22' || return
    peak=$(sed -n '/"memory"/,/}/s/.*"peak_bytes": \([0-9]*\).*/\1/p' result)
    evaluates "${options[@]}" --bucket-size "$size" --device-memory "$peak" && [ ! -s notes ] || return
    evaluates "${options[@]}" --bucket-size "$size" --device-memory $((peak - 1))
    [ $? -eq 1 ] && holds 'not d["feasible"]'
}

refuses_the_least() {
    evaluates --dp 1 --offload params --device-memory 1200MiB
    [ $? -eq 1 ] && ! grep -q instead notes && grep -q 'device memory' notes &&
        holds 'not d["feasible"] and d["strategy"]["bucket_size"] == 1 << 14' || return
    evaluates --dp 1 --offload optimizer --host-memory 1GiB
    [ $? -eq 1 ] && grep -q 'of host memory' notes
}

# finds_fastest OPTION...: the ratio that auto takes is as fast as the fastest sixteenth that fits.
finds_fastest() {
    local part fastest
    for part in 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16; do
        evaluates "$@" --offload optimizer --offload-ratio "$(awk "BEGIN { print $part / 16 }")" || continue
        sed -n 's/.*"step_s": \([0-9.]*\).*/\1/p' result | head -n 1
    done | sort -n | head -n 1 >fastest
    fastest=$(cat fastest)
    evaluates "$@" --offload optimizer --offload-ratio auto || return
    grep -q 'buckets of' notes && [ "$(grep -c 'buckets of' notes)" -ne 1 ] && return 1
    holds "d['feasible'] and d['time']['step_s'] <= 1.0001 * $fastest"
}

plan 10
ok "the strategy says what was chosen, and paths are those of delayed updates" shows_strategy
ok "ledgers of both memories sum to their peaks in every stage of ZeRO" sums_up
ok "each stage of ZeRO keeps a part of what the one before keeps whole" cuts_states
ok "--explain says what is kept where, and in which buckets" explains
ok "buckets shrink to what fits, and say so; a given size stays" shrinks
ok "what does not fit with the least buckets is refused" refuses_the_least
ok "--offload-ratio auto takes the fastest where all fit" finds_fastest --zero 2
ok "where the device is short it takes what fits" finds_fastest --dp 1 --device-memory 2600MiB
ok "where the host is short too" finds_fastest --dp 1 --device-memory 2600MiB --host-memory 1400MiB
ok "and with pipelines" finds_fastest --pp 2 --zero 1 --global-batch 16 --device-memory 2GiB
