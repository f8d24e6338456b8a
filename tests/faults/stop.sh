#!/bin/bash
# A signal lets a run finish its step, save, and end with status 4; then it goes on with the same bits as if nobody had
# stopped it.
. "${srcdir:-.}/tests/exec/job.sh" || exit 3

# go FOLDER RANKS STEPS: saves and logs in the folder
go() {
    mkdir -p "$1"
    train "$2" --dp "$(($2 > 0 ? $2 : 1))" --micro-batch 2 --steps "$3" --save "$1/save" --log "$1/log" \
        --resume auto --precision bf16
}

steps_of() { wc -l <"$1/log"; }

# stopped SIGNAL FOLDER RANKS: sends it to one rank when some steps are done; the run ends with status 4, saved
stopped() {
    local status
    limit=60 go "$2" "$3" 1000000 >lines 2>messages &
    reaches 3 "$2/log" || return
    kill "-$1" "$(started dsc-run | tail -n 1)"
    wait $!
    status=$?
    cat messages
    [ $status -eq 4 ] && [ "$(grep -c "stopped by a signal after step $(steps_of "$2")" messages)" -eq 1 ] &&
        [ "$(wc -l <lines)" -eq "$(steps_of "$2")" ] && [ -d "$2/save/step-$(printf %08d "$(steps_of "$2")")" ] &&
        [ -z "$(left_behind)" ]
}

# continues FOLDER RANKS: by 3 steps; the log and the checkpoint are those of a run without a stop
continues() {
    local last=$(($(steps_of "$1") + 3)) name
    name=$(printf step-%08d/checkpoint.h5 "$last")
    go "$1" "$2" "$last" >/dev/null 2>messages && grep "resuming from $1/save" messages || return
    go "$1.straight" "$2" "$last" >/dev/null || return
    diff <(timeless "$1/log") <(timeless "$1.straight/log") && cmp "$1/save/$name" "$1.straight/save/$name"
}

# What happens without a folder to save in
unsaved() {
    limit=60 train 1 --steps 1000000 --log log >/dev/null 2>messages &
    reaches 1 log || return
    kill -TERM "$(started dsc-run)"
    wait $!
    [ $? -eq 4 ] && grep 'not saved' messages
}

# MPICH would ask a launcher whether another rank has died.
without_launcher() {
    limit=20 go alone 0 1000000 >/dev/null 2>messages &
    reaches 1 alone/log || return
    kill -USR1 "$(started dsc-run)"
    wait $!
    [ $? -eq 4 ] && grep 'stopped by a signal' messages && [ "$(wc -l <messages)" -le 2 ]
}

plan 8
for case in "TERM 1" "USR1 2" "TERM 4"; do
    read -r signal ranks <<<"$case"
    ok "SIG$signal on $ranks ranks: the step is finished and saved, status 4" stopped "$signal" "$signal$ranks" "$ranks"
    ok "SIG$signal on $ranks ranks: what follows has the same bits" continues "$signal$ranks" "$ranks"
done
ok "a stop without --save says that nothing is saved" unsaved
ok "SIGUSR1 without mpiexec: the step is finished and saved, status 4" without_launcher
