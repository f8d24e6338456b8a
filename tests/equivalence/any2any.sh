#!/bin/bash
# Any layout goes on from a checkpoint of any other. For random pairs A, B over 1 to 8 ranks: A trains and saves as one
# rank does; what B continues from A's step 10 has one rank's losses to 1e-5 and, at step 20, its tensors to 1e-4 in
# norm; what A continues itself has the bits of A without a stop; and no layout changes a bit of the initial weights.
. "${srcdir:-.}/tests/exec/job.sh" || exit 3

pairs=6 sparse_pairs=2 llama_pairs=2
! exhaustive || pairs=40 sparse_pairs=20 llama_pairs=20
RANDOM=${DSC_SEED:=$(($(date +%s) % 32768))}
echo "# DSC_SEED=$DSC_SEED"

layers=6 batch=16

# family SEQUENCE OPTIONS: what is trained
family() {
    seq=$1
    words=(--model "layers=$layers,hidden=32,heads=4,vocab=131,seq=$seq" "${@:2}")
}

# pick VARIABLE WORD...: one of the words. No subshell, which would not move RANDOM on.
pick() {
    local from=("${@:2}")
    printf -v "$1" %s "${from[RANDOM % ${#from[@]}]}"
}

# draw VARIABLE: ranks and options of a layout
draw() {
    local tp pp dp micro schedule stages sequence options
    while :; do
        pick tp 1 2 4
        pick pp 1 2 3 4
        pick dp 1 2 4 8
        pick micro 1 2 4
        pick schedule gpipe 1f1b interleaved zb-h1
        pick stages 2 3
        pick sequence "" " --sequence-parallel"
        options="--tp $tp --pp $pp --dp $dp --micro-batch $micro"
        ((tp * pp * dp <= 8 && batch % (micro * dp) == 0)) || continue
        [ -z "$sequence" ] || ((tp > 1 && micro * seq % tp == 0)) || continue
        [ "$pp" -eq 1 ] || options+=" --schedule $schedule"
        if [ "$pp" -gt 1 ] && [ "$schedule" = interleaved ]; then
            ((batch / (micro * dp) % pp == 0 && pp * stages <= layers)) || continue
            options+=" --virtual-stages $stages"
        fi
        printf -v "$1" %s "$((tp * pp * dp)) $options$sequence"
        return
    done
}

# go LOG SAVE LAYOUT OPTIONS: 20 steps
go() {
    # shellcheck disable=SC2086
    learn "$1" $3 "${words[@]}" --save "$2" "${@:4}"
}

# go_on LOG SAVE LAYOUT: from A's step 10; the log begins with A's first steps
go_on() {
    head -n 10 a.log >"$1"
    go "$1" "$2" "$3" --resume a/step-00000010
}

alike() { # SAVE STEP: tensors are those of one rank
    local step
    printf -v step 'step-%08d' "$2"
    "$build/dsc-checkpoint" diff --rtol 1e-4 "$1/$step" "one/$step"
}

as_one_rank() { # LAYOUT: A, and its checkpoint of step 10
    go a.log a "$1" --save-every 10 && near loss 1e-5 a.log one.log && alike a 10
}

same_bits() { # LAYOUT: A once more, from its own step 10
    go_on again.log again "$1" && diff <(timeless again.log) <(timeless a.log) &&
        cmp again/step-00000020/checkpoint.h5 a/step-00000020/checkpoint.h5
}

continues() { # LAYOUT: B from A's step 10
    go_on b.log b "$1" && near loss 1e-5 b.log one.log && alike b 20
}

begins_as_one() { # LAYOUT
    # shellcheck disable=SC2086
    train $1 "${words[@]}" --steps 0 --save zero && "$build/dsc-checkpoint" diff zero/step-00000000 one/step-00000000
}

# Several ranks verify, each a share of the bytes.
skips_damaged() {
    train 4 --dp 4 "${words[@]}" --steps 20 --save one --resume auto --log late.log 2>notes >/dev/null
    cat notes
    grep -q 'skipped step-00000020: /.* is damaged' notes && grep -q 'resuming from one/step-00000010' notes &&
        [ "$(column step late.log | head -n 1)" = 11 ]
}

names_damaged() {
    train 4 --dp 4 "${words[@]}" --steps 30 --resume damaged/step-00000020 >lines 2>notes
    [ $? -eq 2 ] && grep -q -- '--resume damaged/step-00000020: /.* is damaged' notes && [ ! -s lines ]
}

# compare PAIRS PATTERN: of layouts together like that
compare() {
    local one="1 --dp 1 --micro-batch 1" a b
    rm -rf one one.log
    # shellcheck disable=SC2086
    train $one "${words[@]}" --steps 0 --save one && go one.log one "$one" --save-every 10
    report $? "one rank saves its initial weights, and steps 10 and 20: ${words[*]}"
    for ((pair = 0; pair < $1; pair++)); do
        a="" b=""
        until [ "$b" != "$a" ] && [[ "$a, $b" == $2 ]]; do draw a; draw b; done
        pair
    done
}

pair() { # A and B
    ok "initial weights are those of one rank, bit for bit: n=$b" begins_as_one "$b"
    ok "trained and saved as by one rank: n=$a" as_one_rank "$a"
    ok "it goes on with the same bits" same_bits "$a"
    ok "from its step 10 goes on as one rank: n=$b" continues "$b"
    rm -rf a again b zero
}

plan $((5 + 4 * (pairs + sparse_pairs + llama_pairs)))
# Heads that see more than others are dealt to tensor ranks in an order of their own, of which files know nothing.
layout 4 3 2 >unbalanced.json
family 48 --attention unbalanced.json,2=local,3=dense
compare $sparse_pairs "*--tp [24]*"
# Files hold its products turned, and queries, keys and values apart.
family 24 --model "layers=$layers,hidden=32,heads=8,kv_heads=4,gated=1,norm=rms,pos=rope,tied=0,vocab=131,seq=24"
compare $llama_pairs "*--tp [24]*"
# 4 tensor ranks cut vocabulary and positions in uneven parts, 4 stages the layers.
family 30
compare $pairs "*"

# A byte of some tensor
target=one/step-00000020/checkpoint.h5
printf '\377' | dd of=$target bs=1 seek=$(($(stat -c %s $target) * 3 / 4)) conv=notrunc status=none
cp -r one damaged
ok "a damaged checkpoint is skipped, and the one before is taken" skips_damaged
ok "where it was asked for, its tensor is named" names_damaged
