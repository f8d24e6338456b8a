#!/bin/bash
# What dsc-plan says where a strategy is no good: it names what was given, never what the search tried, and gives no
# advice that was followed already or would not help.
. "${srcdir:-.}/tests/tap.sh"

build=$PWD
scratch=$(mktemp -d "${TMPDIR:-/tmp}/dsc-test-XXXXXX")
trap 'rm -rf "$scratch"' EXIT
cd "$scratch" || exit 3

gpt2=(--model gpt2 --cluster dgx-a100-80g)

# says STATUS TEXT OPTIONS...: one line beside the note of a search, which holds the text
says() {
    local expected=$1 text=$2
    shift 2
    timeout 60 "$build/dsc-plan" "${gpt2[@]}" "$@" >table 2>messages
    [ $? -eq "$expected" ] && cat messages && [ "$(grep -vc ' screened in ' messages)" -eq 1 ] &&
        grep -qF -- "$text" messages
}

search() { # TEXT OPTIONS...
    local text=$1
    shift
    says 2 "$text" --search --global-batch 32 "$@"
}

# needs OPTIONS...: bytes of the device that states take, and all of it
needs() {
    "$build/dsc-plan" "${gpt2[@]}" --global-batch 16 --device-memory 1 --json "$@" >plan.json 2>/dev/null
    /usr/bin/python3 - <<'END'
import json
m = json.load(open("plan.json"))["memory"]
print(m["parameters_bytes"] + m["gradients_bytes"] + m["optimizer_bytes"], m["peak_bytes"])
END
}

# helps COLUMN "OPTIONS" OPTIONS...: the advice, beside the options that it is for, lessens that number
helps() {
    local column=$1 advice=$2 before after
    shift 2
    before=$(needs "$@" | cut -d' ' -f"$column")
    # shellcheck disable=SC2086 # words of a command line
    after=$(needs "$@" $advice | cut -d' ' -f"$column")
    echo "$before, with $advice $after"
    [ "$after" -lt "$before" ]
}

# A batch so large that few micro-batches are too many passes: larger ones are looked at all the same
finds_in_large_batches() {
    timeout 60 "$build/dsc-plan" "${gpt2[@]}" --search --global-batch 1000000 --precision bf16 --tp 1 --pp 1 --zero 1 \
        --offload none --top 1 >table 2>messages
    cat table messages
    grep -q '^ *1 .* no ' table
}

finds() { # OPTIONS...
    timeout 60 "$build/dsc-plan" "${gpt2[@]}" --search --global-batch 32 --top 2 "$@" >table 2>messages
    cat table messages
    grep -q '^ *1 .* optimizer ' table
}

plan 33
ok "a micro-batch larger than the batch" \
    search 'global batch 32 is no multiple of micro-batch 33 x dp 1 = 33; without --micro-batch 33' --micro-batch 33
ok "chunks that the schedule has no use for" \
    search 'only --schedule interleaved takes more than 1; without --virtual-stages 2 or --schedule gpipe there' \
    --schedule gpipe --virtual-stages 2
ok "more chunks than layers" search 'without --virtual-stages 20 there' --virtual-stages 20
ok "more stages than layers" search '--pp 16' --cluster dgx-a100-80g:4 --pp 16
ok "heads that tp does not divide" search "--tp 5 does not divide the model's heads, 12" --tp 5 --dp 1
ok "devices that tp does not divide" search "with tp 3 no tp x pp x cp x dp is the cluster's 8 devices" --tp 3
ok "more ranks than devices" search "with pp 14, dp 1 there are more ranks than the cluster's 8" --pp 14 --dp 1
ok "a batch that replicas do not divide" search 'global batch 32 is no multiple of micro-batch 1 x dp 5 = 5' --dp 5
ok "two that do not go together, each by its name" \
    search 'without --pp 2 or --schedule zb-h1 or --zero 3 there are some' --schedule zb-h1 --zero 3 --pp 2
ok "an option that no other strategy would take" search '--cp: compression' --optimizer onebit-adam --cp 2
ok "late gathers of one replica" search '--late-gather is of updated weights' --late-gather --dp 1
ok "late gathers and offload" search '; leave one out; without --offload optimizer' --late-gather --offload optimizer
ok "what compression has no use for" search '--zero: compression spares' --optimizer onebit-adam --zero 1
ok "what follows from the batch is not given" \
    says 2 'without --tp 4 there are some' --search --global-batch 30 --micro-batch 2 --gradient-accumulation-steps 5 \
    --tp 4
ok "a share of the states goes with offload, which is searched" finds --offload-ratio 0.5
ok "so does a delayed update" finds --delay-update 3
ok "with offload that is given, too" finds --offload-ratio 0.5 --offload optimizer
ok "and with no other" search "it takes --offload optimizer; without --offload none there" \
    --offload-ratio 0.5 --offload none
ok "a schedule of stages for which there are no devices" \
    search "is of a pipeline's stages, and pp is 1; without --dp 8" --schedule interleaved --dp 8
ok "sizes none of which has a legal strategy are bad input" says 2 '--largest-model: of no size one is legal' \
    --largest-model --global-batch 8 --micro-batch 9
ok "strategies of a huge batch are found" finds_in_large_batches
ok "and none that holds more bytes than a number does" says 1 'none fits' --search --global-batch 1e12 --json
ok "GPipe of too many micro-batches is refused" \
    says 2 '--schedule gpipe holds all' --schedule gpipe --pp 2 --dp 1 --micro-batch 1500000 --global-batch 9e10 \
    --model layers=1,hidden=64,heads=4,vocab=64,seq=1024

states=(--device-memory 1800MiB --tp 1 --dp 8 --global-batch 16 --precision fp32 --recompute full)
ok "states of replicas: shards or offload" \
    says 1 'less stays there with --zero 3 or --offload optimizer or a larger --tp' "${states[@]}"
ok "shards are fewer" helps 1 '--zero 3' --dp 8
ok "offload leaves less" helps 1 '--offload optimizer' --dp 8
ok "what is sharded is not to be sharded" says 1 'less stays there with --offload optimizer or more devices' \
    --device-memory 1100MiB --dp 8 --global-batch 16 --zero 3 --recompute full
ok "1-bit Adam shards nothing" says 1 'less stays there with --offload optimizer or a larger --tp or a larger --pp' \
    "${states[@]}" --optimizer onebit-adam
ok "ZB-H1 shards the optimizer alone" says 1 'with --zero 1 or --offload optimizer' --pp 4 --dp 2 --schedule zb-h1 \
    --global-batch 8 --device-memory 1500MiB
ok "libraries alone" \
    says 1 'libraries alone take 1.00 GiB (1073741824); a larger device is needed' --device-memory 1GiB
ok "GPipe holds as much of smaller micro-batches" says 1 '--schedule 1f1b needs less' --schedule gpipe --dp 1 --pp 2 \
    --micro-batch 4 --global-batch 32 --device-memory 6GiB
ok "which 1F1B does not" helps 2 '--schedule 1f1b' --schedule gpipe --dp 1 --pp 2 --micro-batch 2
ok "checkpoints in host memory" says 1 '--activation-checkpoints cut needs less' --global-batch 8 --host-memory 1MiB \
    --recompute full --activation-checkpoints host
