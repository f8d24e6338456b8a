#!/bin/bash
# How a job ends: with one status and one message on all ranks, soon, and with nothing from the launcher.
. "${srcdir:-.}/tests/tap.sh"

program=tests/comm/fault
marker=fault-$$ # an argument that only our processes have

# job RANKS DEED CULPRIT CODE: sets status, seconds (whole ones) and said, the distinct lines with their number
job() {
    local start=$SECONDS
    said=$(timeout --kill-after=5 30 "${MPIEXEC:-mpiexec}" -n "$1" "$program" "$2" "$3" "$4" $marker 2>&1 >/dev/null \
        </dev/null; echo "exit $?")
    seconds=$((SECONDS - start))
    status=${said##*exit }
    said=$(printf '%s\n' "$said" | sed '$d' | sort | uniq -c | sed 's/^ *//')
}

# expect EXIT SAID SECONDS after a job
expect() {
    [ "$status" = "$1" ] && [ "$said" = "$2" ] && [ "$seconds" -le "$3" ] && return
    printf 'exit status %s, %s wanted\n%s s, %s allowed\nsaid: %s\nwanted: %s\n' "$status" "$1" "$seconds" "$3" \
        "$said" "$2"
    return 1
}

ends() {
    job "$1" "$2" "$3" "$4"
    expect "$5" "$6" "${7:-10}"
}

leaves() { # with whatever each rank knew by then
    job "$@"
    [ "$status" -lt 8 ] && [ "$seconds" -le 3 ] || expect "less than 8" "anything" 3
}

raises_are_one() { # whoever was first
    job 8 all 0 5
    [[ $status = 3 && $said =~ ^8\ status\ 5:\ rank\ ([1-7]):\ rank\ ([1-7])\ has\ failed$ &&
        ${BASH_REMATCH[1]} = "${BASH_REMATCH[2]}" ]] || expect 3 "one of ranks 1 to 7" 10
}

left_over() {
    for _ in 1 2 3 4 5 6 7 8 9 10; do
        pgrep -f "$marker" >/dev/null || return 0
        sleep 0.2
    done
    pgrep -af "$marker"
    return 1
}

killed() {
    "${MPIEXEC:-mpiexec}" -n 4 "$program" loop 0 0 $marker >/dev/null 2>&1 </dev/null &
    local job=$! ranks
    for _ in $(seq 50); do
        ranks=$(pgrep -f "^$program.*$marker")
        [ "$(wc -w <<<"$ranks")" -eq 4 ] && break
        sleep 0.1
    done
    sleep 0.5
    kill -9 $(head -n 1 <<<"$ranks")
    ! wait $job && left_over
}

if [ ! -x $program ]; then
    plan 1
    skip "a job ends with one status and one message" "built without MPI"
    exit
fi
plan 21
for ranks in 1 2 4 8; do
    ok "$ranks ranks end well" ends $ranks well 0 0 0 "$ranks status 0: well"
    ok "$ranks ranks agree on bad input" ends $ranks agree $((ranks - 1)) 1 2 \
        "$ranks status 1: rank $((ranks - 1)) has failed"
done
for code in 3:1 2:2 5:3 8:4; do
    ok "status ${code%:*} ends four ranks with ${code#*:}" ends 4 agree 2 ${code%:*} ${code#*:} \
        "4 status ${code%:*}: rank 2 has failed"
done
for ranks in 2 4 8; do
    ok "a failure amid an all-reduce ends $ranks ranks alike" ends $ranks raise $((ranks - 1)) 4 3 \
        "$ranks status 4: rank $((ranks - 1)): rank $((ranks - 1)) has failed"
done
ok "a failure of rank 0 ends four ranks alike" ends 4 raise 0 1 2 "4 status 1: rank 0: rank 0 has failed"
ok "of failures at one time one is everybody's" raises_are_one
ok "a failure after the last collective holds nobody up" leaves 4 last 1 5
ok "a rank that does not answer is ended within 10 s" ends 4 stuck 2 5 3 "3 status 5: rank 2: rank 2 has failed"
ok "a rank that is killed takes all with it" killed
ok "no process is left behind" left_over
