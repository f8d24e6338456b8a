#!/bin/bash
# An error on one rank in mid-step ends all of them, within seconds, with its message once and one exit status: 3, or 2
# for a token that is no word of the vocabulary. A checkpoint that cannot be written leaves the older one as it was.
. "${srcdir:-.}/tests/exec/job.sh" || exit 3

# ends STATUS PATTERN RANKS WORDS...: on stderr stands one line, which matches
ends() {
    local expected=$1 pattern=$2 ranks=$3 status
    shift 3
    limit=10 train "$ranks" "$@" >lines 2>messages
    status=$?
    cat messages
    [ $status -eq "$expected" ] || { echo "status $status"; return 1; }
    [ "$(wc -l <messages)" -eq 1 ] && [[ $(<messages) =~ $pattern ]] && [ -z "$(left_behind)" ]
}

# op_fails KIND OPTIONS: the last op of such a kind in the program of rank 2 of 4
op_fails() {
    local kind=$1 op
    shift
    "$build/dsc-plan" --model "$tiny" --cluster local --dp 4 --global-batch 16 "$@" --trace plan.h5 >/dev/null &&
        "$build/dsc-trace" export plan.h5 -o plan.csv || return
    op=$(awk -F, -v kind="$kind" '$5 == kind { op = $3 } END { print op }' plan.csv)
    ends 3 "rank 2.*$kind" 4 --dp 4 --steps 100 "$@" --fail-op "2:$op"
}

# Fails in the step where the file has run out of what the vocabulary holds
spoil() { head -c 10000 text.txt; printf '\377'; tail -c 9999 text.txt; }

# full RANKS: a save finds the disk full, for which a limit on files' sizes stands; the older checkpoint is as it was.
# The model is large enough for MPI's own files to stay below the limit.
full() {
    local options=(--dp "$1" --model layers=2,hidden=256,heads=8,vocab=131,seq=24 --save save --save-every 1)
    rm -rf save
    train "$1" "${options[@]}" --steps 1 >/dev/null || return
    (ulimit -f 12000 && trap '' XFSZ && ends 3 'cannot write.*too large' "$1" "${options[@]}" --steps 2) || return
    "$build/dsc-checkpoint" verify save/step-00000001 && [ "$(ls save)" = "$(printf '%s\n' latest step-00000001)" ]
}

# lost RANKS: the folder is gone when the run wants to save
lost() {
    local status
    rm -rf save log
    limit=60 train "$1" --dp "$1" --steps 1000000 --save save --log log >lines 2>messages &
    reaches 2 log || return
    rm -r save && touch save
    kill -TERM "$(started dsc-run | head -n 1)"
    wait $!
    status=$?
    cat messages
    [ $status -eq 3 ] && [ "$(wc -l <messages)" -eq 1 ]
}

# drained: the reader of the log is gone while an update is put off; what is saved then is what a run saves that was to
# end with that step
drained() {
    local options=(--dp 2 --micro-batch 4 --zero 1 --offload optimizer --delay-update 1 --save) step
    rm -rf save straight && mkfifo pipe && { head -n 6 pipe >/dev/null & } && sleep 0.1
    limit=60 train 2 "${options[@]}" save --steps 100000 --log pipe >lines 2>messages
    [ $? -eq 3 ] && grep pipe messages && step=$(ls save | sed -n 's/^step-0*//p') && [ "$step" -gt 3 ] || return
    limit=60 train 2 "${options[@]}" straight --steps "$step" >/dev/null &&
        cmp {save,straight}/step-*/checkpoint.h5
}

spoil >spoilt.txt
# diverged RANKS: the loss is no number, and is not saved
diverged() {
    rm -rf save
    ends 3 'step 2: loss nan.*diverged.*1e.18' "$1" --dp "$1" --lr 1e18 --steps 100 --save save --save-every 1 || return
    [ "$(ls save | sort | head -n 1)" = latest ] && "$build/dsc-checkpoint" verify save/step-00000001
}

plan 20
for kind in attention_fwd mlp_bwd_w all_reduce agree update; do
    ok "a failure in $kind of one of 4 ranks ends all, with its message" op_fails $kind
done
for kind in copy_in copy_out all_gather reduce_scatter; do
    ok "a failure in $kind of one of 4 ranks ends all, with its message" op_fails $kind --zero 3 --offload params
done
ok "an op that there is not cannot fail" ends 2 '2:99999: the rank.s program has [0-9]* ops' 4 --dp 4 --steps 2 \
    --fail-op 2:99999
for ranks in 1 4; do
    ok "a loss that is no number ends a run, $ranks ranks" diverged $ranks
    ok "a token past the vocabulary ends a run when it is found, $ranks ranks" \
        ends 2 'spoilt\.txt.*10000.*255.*131' $ranks --dp $ranks --data spoilt.txt --steps 1000
    ok "a full disk ends a run, and the older checkpoint stands, $ranks ranks" full $ranks
    ok "a --save folder that is lost ends a run, $ranks ranks" lost $ranks
done
ok "a log that cannot be written ends a run" ends 3 '/dev/full' 4 --dp 4 --steps 100 --log /dev/full
ok "a log that cannot be written any more leaves a checkpoint of all updates" drained
