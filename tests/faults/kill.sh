#!/bin/bash
# Training survives kills. A run is killed (a rank, the launcher or everything at once) at random moments and started
# again by the same command, until it has come to its end: each trace reads to the last step that was logged, each
# resume starts from a whole checkpoint, nothing is left behind, and the losses are those of a run that nobody killed.
# Once with all on the device, once with parameters, gradients and states in parts on the host, so that most moments are
# in a transfer between ranks or spaces, once with updates put off, and once with compressed momenta, whose errors are
# each rank's own.
. "${srcdir:-.}/tests/exec/job.sh" || exit 3

kills=6
! exhaustive || kills=100
RANDOM=${DSC_SEED:=$(($(date +%s) % 32768))}
echo "# DSC_SEED=$DSC_SEED"

# go STEPS SAVE LOG TRACE: the command that is repeated; 2 ranks, which hold what $held says
go() {
    # shellcheck disable=SC2086
    train 2 --dp 2 --micro-batch 4 $held --steps "$1" --save "$2" --save-every 5 --resume auto --log "$3" --trace "$4"
}

# strike: kills what chance tells, and says so; there may be nothing any more
strike() {
    local victims
    case $((RANDOM % 4)) in
    0) mapfile -t victims < <(started dsc-run; started hydra; started mpiexec); echo "everything" ;;
    1) mapfile -t victims < <(started mpiexec); echo "the launcher" ;;
    *) mapfile -t victims < <(started dsc-run | shuf -n 1); echo "a rank" ;;
    esac
    [ ${#victims[@]} -eq 0 ] || kill -KILL "${victims[@]}" 2>/dev/null
}

last_step() { column step log 2>/dev/null | tail -n 1; }

# lacks_steps TRACE LAST: what speaks against a trace whose run logged steps up to the last
lacks_steps() {
    local traced
    "$build/dsc-trace" summary "$1" >messages 2>&1 && "$build/dsc-trace" export "$1" -o trace.csv >messages 2>&1 || {
        cat messages
        return
    }
    traced=$(tail -n 1 trace.csv | cut -d, -f1)
    [ "$traced" -ge "$2" ] || echo "$1 ends with step $traced, the log with $2"
}

# wreck FIRST: what speaks against what a kill has left behind, of a run that logged steps from the first on, if any
wreck() {
    local folder last
    left_behind
    for folder in save/step-*[0-9]; do
        [ ! -e "$folder" ] || "$build/dsc-checkpoint" verify "$folder" >messages 2>&1 || cat messages
    done
    last=$(last_step)
    [ "${last:-0}" -lt "$1" ] || lacks_steps "$(ls -t trace*.h5 | head -n 1)" "$last"
}

# strays NEWEST: what speaks against the start having gone on from the newest checkpoint that there was. Judged by the
# first step line, if it came to one: what a killed launcher was about to pass on of stderr may be lost.
strays() {
    local first next=$((10#0${1#step-} + 1))
    first=$(sed -n 's/^step \([0-9]*\).*/\1/p' lines | head -n 1)
    [ "${first:-$next}" -eq $next ] || echo "began with step $first, not $next"
}

steps_saved() { ls save 2>/dev/null | grep -x 'step-[0-9]*'; }
newest() { steps_saved | tail -n 1; }

# survives: kills, and what is there in the end
survives() {
    local number checkpoint what last
    rm -rf save straight log straight.log ./*.h5
    for ((number = 1; number <= kills; number++)); do
        checkpoint=$(newest)
        go 100000 save log trace.h5 >lines 2>notes &
        sleep "0.$((RANDOM % 90 + 10))"
        what=$(strike)
        wait
        empty "kill $number, of $what, leaves checkpoints and a trace that can be used" \
            "$(wreck $((10#0${checkpoint#step-} + 1)); strays "$checkpoint")"
        steps_saved | head -n -2 | sed 's,^,save/,' | xargs rm -rf # verified
    done

    last=$(($(last_step) + 3))
    go "$last" save log trace.h5 >lines 2>notes
    status=$?; [ $status = 0 ] || sed "s/^/# /" notes
    report $status "the same command comes to its end"
    go "$last" straight straight.log straight.h5 >lines 2>notes
    empty "losses are those of a run that nobody killed, $last steps" "$(diff <(timeless log) <(timeless straight.log))"
}

plan $((4 * kills + 8))
held='--zero 0' survives
held='--zero 3 --offload params --bucket-size 5000' survives
held='--zero 2 --offload optimizer --delay-update 3 --bucket-size 5000' survives
# At this rate a variance of three steps is good for all steps that kills leave.
held='--optimizer onebit-adam --freeze-step 3 --lr 1e-4 --bucket-size 5000' survives
