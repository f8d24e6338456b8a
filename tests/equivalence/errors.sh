#!/bin/bash
# What compression did not send is not lost in a checkpoint. A run that stops while 1-bit Adam, 0/1 Adam or 1-bit LAMB
# compresses goes on with the same bits; errors are kept by element, so that other layouts of as many workers hold the
# same; for another number of workers each one's is the mean of those that it stands for, and the mean of all stays what
# it was. Where errors have lost their meaning they start at zero, and are said to.
. "${srcdir:-.}/tests/exec/job.sh" || exit 3

# 131 and 24 divide by no number of chunks: most units end with padding.
odd=layers=2,hidden=32,heads=4,vocab=131,seq=24
words=(--global-batch 12 --optimizer onebit-adam --freeze-step 4 --bucket-size 5000)

# go LAYOUT STEPS SAVE OPTIONS: stderr in notes
go() {
    # shellcheck disable=SC2086
    train $1 --model "$odd" "${words[@]}" --steps "$2" --save "$3" "${@:4}" 2>notes >/dev/null || { cat notes; false; }
}

ten=step-00000010 twenty=step-00000020

# starts SAVE LAYOUT OPTIONS: 20 steps, of which $compressed are, in that way
compressed=16 way=local/exchange
starts() {
    rm -rf "$1" "$1.log"
    go "$2" 20 "$1" --save-every 10 --log "$1.log" "${@:3}" &&
        [ "$(column path "$1.log" | grep -cx "\"$way\"")" -eq $compressed ]
}

# same_bits LAYOUT OPTIONS: stopped at step 10, or not
same_bits() {
    rm -rf again again.log
    starts straight "$@" || return
    head -n 10 straight.log >again.log
    go "$1" 20 again --log again.log --resume straight/$ten "${@:2}" &&
        diff <(timeless again.log) <(timeless straight.log) &&
        cmp again/$twenty/checkpoint.h5 straight/$twenty/checkpoint.h5
}

# moves TO LAYOUT OPTIONS: step 10 of $from is loaded, and saved again
moves() {
    rm -rf "$1"
    go "$2" 10 "$1" --resume "$from/$ten" "${@:3}"
}

# same_elements LAYOUT OPTIONS: of as many workers
same_elements() { moves moved "$@" && "$build/dsc-checkpoint" diff "$from/$ten" moved/$ten; }

says() { grep -qF -- "$1" notes || { cat notes; false; }; }

# worker_errors SAVE: the ranges of step 10, as NAME OFFSET BYTES
worker_errors() {
    local name='"name": "\(\/error_feedback\/worker\/[^"]*\)"' number='[^:]*: \([0-9]*\)'
    sed -n "/$name/{N;N;s/.*$name,\n$number,\n$number,/\1 \2 \3/p}" "$1/$ten/manifest.json"
}

values() { od -An -v -t f4 -w4 -j "$2" -N "$3" "$1/$ten/checkpoint.h5"; } # SAVE OFFSET BYTES

# origins A A_WORKERS B B_WORKERS: of each worker of B the error is the mean of those of A that it stands for, and the
# mean of all is that of A, to fp32's rounding; some errors are not zero
origins() {
    local name offset bytes there there_bytes
    while read -r name offset bytes _ there there_bytes; do
        awk -v name="$name" -v A="$2" -v B="$4" '
            function mean(values, first, count, i,  w, sum) {
                for (w = first; w < first + count; w++) sum += values[w * n + i]
                return sum / count
            }
            function origin(w, i) {
                if (A % B == 0) return mean(a, w * A / B, A / B, i)
                if (B % A == 0) return mean(a, int(w * A / B), 1, i)
                return mean(a, 0, A, i)
            }
            function check(what, is, wanted) {
                if ((is - wanted) ^ 2 > (1e-6 * size) ^ 2 && !bad++)
                    print name ", element " i ": " what " is " is ", not " wanted
            }
            NR == FNR { a[NR - 1] = $1; if ($1 ^ 2 > size ^ 2) size = $1; next }
            { b[FNR - 1] = $1 }
            END {
                n = (NR - FNR) / A
                if (FNR != n * B || n == 0) { print name " has " FNR " values, not " n * B; exit 1 }
                if (size == 0) { print name " is all zero"; exit 1 }
                for (i = 0; i < n; i++) {
                    for (w = 0; w < B; w++) check("that of worker " w, b[w * n + i], origin(w, i))
                    check("the mean", mean(b, 0, B, i), mean(a, 0, A, i))
                }
                exit bad > 0
            }' <(values "$1" "$offset" "$bytes") <(values "$3" "$there" "$there_bytes") || return
    done < <(paste -d ' ' <(worker_errors "$1") <(worker_errors "$3"))
    [ "$(worker_errors "$1" | wc -l)" -gt 20 ]
}

# recut TO WORKERS LAYOUT NOTE: from $from with its $workers; all but workers' errors is kept to the bit
recut() {
    rm -f unlike
    moves "$1" "$3" && says "$4" && origins "$from" "$workers" "$1" "$2" &&
        "$build/dsc-checkpoint" diff "$from/$ten" "$1/$ten" 2>&1 | grep '^/' | cut -d/ -f2-3 | sort -u >unlike
    cat unlike
    [ "$(cat unlike)" = error_feedback/worker ]
}

# all_zero SAVE: there are errors, all of them zero
all_zero() {
    local name offset bytes
    while read -r name offset bytes; do
        [ -z "$(values "$1" "$offset" "$bytes" | grep -v '^ *0$')" ] || { echo "$name is not zero"; return 1; }
    done < <(worker_errors "$1")
    [ -n "$(worker_errors "$1")" ]
}

has_none() { ! grep -q error_feedback "$1/$ten/manifest.json"; }

# goes_on PATH LAYOUT OPTIONS: step 11 is of that path
goes_on() {
    rm -f next.log
    go "$2" 11 next --log next.log --resume "$from/$ten" "${@:3}" && [ "$(column path next.log)" = "\"$1\"" ]
}

two="2 --dp 2 --micro-batch 2"
four="4 --dp 4 --micro-batch 3"
# 4 devices each: 2 replicas on a node are a worker
nodes="8 --dp 4 --tp 2 --micro-batch 3 --cluster jeanzay-v100:2 --rank-order tp,cp,dp,pp --onebit-exchange hierarchical"

plan 47
ok "stopped while it compresses it goes on with the same bits: 2 replicas" same_bits "$two"
ok "4 replicas" same_bits "$four"
ok "4 replicas of 2 tensor ranks" same_bits "8 --dp 4 --tp 2 --micro-batch 3"
ok "2 replicas of 2 stages" same_bits "4 --dp 2 --pp 2 --micro-batch 2"
ok "bf16" same_bits "$two" --precision bf16
ok "states on the host" same_bits "$two" --offload optimizer
ok "workers of 2 replicas, each with its part of the errors" same_bits "$nodes"
compressed=7
ok "stopped before it compresses, when the variance settles" same_bits "$two" --freeze-step auto --beta2 0.75
compressed=16
odd=${odd/131/128} same_bits "$two" --onebit-semantics reference --lr 1e-5 >messages
report $? "DeepSpeed's semantics, where nothing is padded"
says "errors of padding are in no checkpoint and start at zero"
report $? "and padding is said to be another thing"

from=two
ok "2 replicas train" starts two "$two"
ok "2 tensor ranks hold the same, element by element" same_elements "4 --dp 2 --tp 2 --micro-batch 2"
ok "4 tensor ranks" same_elements "8 --dp 2 --tp 4 --micro-batch 2"
ok "2 stages" same_elements "4 --dp 2 --pp 2 --micro-batch 2"
ok "another size of buckets" same_elements "$two" --bucket-size 100000000
ok "workers of 2 replicas" same_elements "$nodes"
ok "the host" same_elements "$two" --offload optimizer

from=four workers=4
ok "4 replicas train" starts four "$four"
ok "from 4 replicas to 2" recut half 2 "$two" "error feedback of 4 workers: each of 2 takes the mean of 2"
ok "from 4 to 3" recut third 3 "3 --dp 3 --micro-batch 2" "error feedback of 4 workers: each of 3 takes the mean of all"
from=half workers=2
ok "and from 2 to 4" recut back 4 "$four" "error feedback of 2 workers: each one's goes to 2 of 4"
ok "with other tensor ranks and stages too" \
    recut back 4 "8 --dp 4 --pp 2 --micro-batch 3" "error feedback of 2 workers: each one's goes to 2 of 4"

from=four
moves one "1 --dp 1 --micro-batch 3" && says "error feedback of 4 workers is dropped" && has_none one
report $? "one replica has none, and says what is dropped"
from=one
moves zero "$two" && says "no error feedback in the checkpoint: it starts at zero" && all_zero zero
report $? "from one replica to 2 they start at zero"
from=four
moves plain "$two" --optimizer adam && says "error feedback of 4 workers is dropped" && has_none plain
report $? "another optimizer has none"
moves later "$four" --freeze-step 12 && says "error feedback of 4 workers is dropped" && all_zero later
report $? "a run that is not to compress yet starts with none"
ok "and goes on with exact steps" goes_on gradients/update "$four" --freeze-step 12
ok "the freeze step that is given counts: one that is passed compresses" goes_on local/exchange "$four" --freeze-step 7
from=plain
ok "also what another optimizer trained" goes_on local/exchange "$two" --freeze-step 10
has_none plain && moves exact "$two" --freeze-step 100 && ! grep -q 'error feedback' notes
report $? "where there is nothing to say, nothing is said"

# 0/1 Adam: stopped where replicas share gradients in between, and where they step by themselves and would not have met
words=(--global-batch 12 --bucket-size 5000 --optimizer zero-one-adam --var-update-scaler 2 --local-step-scaler 1 \
    --local-step-clipper 4)
way=local/share compressed=8
ok "0/1 Adam among shared gradients: 2 replicas" same_bits "$two" --var-freeze-step 14
way=local/step compressed=8
ok "among replicas' own steps: 2 replicas" same_bits "$two" --var-freeze-step 7
from=straight
moves shared "$two" --var-freeze-step 14 && says "dropped: the next step compresses something else" && all_zero shared
report $? "errors of own steps are dropped where gradients are shared"
ok "4 replicas of 2 stages, bf16" same_bits "8 --dp 4 --pp 2 --micro-batch 3" --var-freeze-step 7 --precision bf16
ok "workers of 2 replicas" same_bits "$nodes" --var-freeze-step 7
ok "one replica, on the host" same_bits "1 --dp 1 --micro-batch 3" --var-freeze-step 7 --offload optimizer

# 1-bit LAMB: the variance that goes on, and what is known of each tensor, are saved too
words=(--global-batch 12 --bucket-size 5000 --optimizer onebit-lamb --freeze-step 4 --weight-decay 0.01)
way=local/exchange compressed=16
ok "1-bit LAMB: 2 replicas" same_bits "$two"
ok "4 replicas of 2 tensor ranks" same_bits "8 --dp 4 --tp 2 --micro-batch 3"
ok "2 replicas of 2 stages, bf16" same_bits "4 --dp 2 --pp 2 --micro-batch 2" --precision bf16
ok "states on the host" same_bits "$two" --offload optimizer
ok "workers of 2 replicas" same_bits "$nodes"
compressed=7
ok "stopped before it compresses, when the variance settles" same_bits "$two" --freeze-step auto --beta2 0.75
compressed=16 from=two
ok "2 replicas train" starts two "$two"
ok "4 tensor ranks hold the same, by element and by tensor" same_elements "8 --dp 2 --tp 4 --micro-batch 2"
ok "2 stages, on the host" same_elements "4 --dp 2 --pp 2 --micro-batch 2" --offload optimizer
moves plain "$two" --optimizer adam && says "the checkpoint's trust ratios are dropped"
report $? "another optimizer has no trust ratios, and says so"
from=plain
! go "$two" 11 next --resume plain/$ten && says "plain/$ten has no trust ratios" &&
    goes_on gradients/update "$two" --freeze-step 12
report $? "what another optimizer trained takes exact steps first"
