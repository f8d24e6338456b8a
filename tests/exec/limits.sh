#!/bin/bash
# Capacities are hard and exact: at the peak that dsc-plan foresees, in either space, a run fits; with one byte less
# dsc-plan and dsc-run both say no, with both numbers. What the machine cannot give ends a run before its first step.
. "${srcdir:-.}/tests/exec/job.sh" || exit 3

# peak SPACE PLAN: peak_bytes of dsc-plan's JSON
peak() { sed -n "/\"$1\": {/,/}/s/.*\"peak_bytes\": \([0-9]*\).*/\1/p" "$2"; }

# refuses STATUS NUMBERS COMMAND...: one line that has all the numbers
refuses() {
    local expected=$1 numbers=$2 status number
    shift 2
    "$@" >lines 2>messages
    status=$?
    [ $status -eq "$expected" ] && [ "$(wc -l <messages)" -eq 1 ] || { echo "status $status"; cat messages; return 1; }
    for number in $numbers; do
        grep -q "\b$number\b" messages || { echo "no $number:"; cat messages; return 1; }
    done
}

foresee() { "$build/dsc-plan" --model "$tiny" --cluster local --global-batch 16 "$@"; }

exact() { # RANKS OPTIONS
    local ranks=$1 device host
    shift
    foresee "$@" --json >plan || return
    device=$(peak memory plan) host=$(peak host_memory plan)
    foresee "$@" --device-memory "$device" --host-memory "$host" >/dev/null &&
        train "$ranks" "$@" --device-memory "$device" --host-memory "$host" --steps 2 >/dev/null || return
    refuses 1 "$device $((device - 1))" foresee "$@" --device-memory $((device - 1)) &&
        refuses 1 "$device $((device - 1))" train "$ranks" "$@" --device-memory $((device - 1)) --steps 2 &&
        refuses 1 "$host $((host - 1))" foresee "$@" --host-memory $((host - 1)) &&
        refuses 1 "$host $((host - 1))" train "$ranks" "$@" --host-memory $((host - 1)) --steps 2
}

# Without --bucket-size buckets shrink, with a note, to 2^14 elements and no further
least() { # OPTIONS
    local device
    foresee "$@" --bucket-size 16384 --json >plan || return
    device=$(peak memory plan)
    foresee "$@" --device-memory "$device" 2>&1 >/dev/null | grep 'buckets of [0-9]* elements instead of' &&
        train 2 "$@" --device-memory "$device" --steps 2 >/dev/null &&
        refuses 1 "$device $((device - 1))" foresee "$@" --device-memory $((device - 1)) &&
        refuses 1 "$device $((device - 1))" train 2 "$@" --device-memory $((device - 1)) --steps 2
}

# More than any machine has: nothing is mapped
too_large() {
    refuses 3 'are free' train 0 --model layers=400,hidden=8192,heads=64,vocab=256,seq=128 --precision bf16 \
        --offload params --device-memory 8TiB --host-memory 99TiB --global-batch 1 --steps 1
}

# refused KIB: rank 1 alone has so little address space; the system refuses it the host's arena
refused() {
    local large=layers=4,hidden=1024,heads=8,vocab=256,seq=24
    cat >rank <<-END
	[ "\${PMI_RANK:-\$PMIX_RANK}" != 1 ] || ulimit -v $1
	exec "$build/dsc-run" --model $large --data text.txt --global-batch 2 --dp 2 --offload optimizer --zero 1 \
	    --precision bf16 --steps 1
	END
    refuses 3 "$(($1 * 1024)) 1" timeout 60 "${MPIEXEC:-mpiexec}" -n 2 bash ./rank && grep 'host memory' messages
}

layouts=("1 --micro-batch 2 --precision bf16"
    "1 --micro-batch 2 --precision bf16 --offload optimizer --bucket-size 5000"
    "1 --micro-batch 2 --precision bf16 --offload params --bucket-size 20000 --recompute full"
    "2 --dp 2 --micro-batch 2 --zero 3 --precision fp16 --bucket-size 5000"
    "2 --dp 2 --micro-batch 2 --zero 2 --offload optimizer --bucket-size 9000"
    "4 --dp 2 --pp 2 --micro-batch 2 --zero 1 --precision bf16")
plan $((${#layouts[@]} + 3))
for layout in "${layouts[@]}"; do
    # shellcheck disable=SC2086
    ok "at the foreseen peaks it runs, with one byte less both say no: n=$layout" exact $layout
done
ok "buckets shrink to what fits, and no further than 2^14" least --dp 2 --zero 2 --offload optimizer --micro-batch 2 \
    --model layers=4,hidden=256,heads=8,vocab=131,seq=24
ok "more than the machine has free is refused before anything is mapped" too_large
if [ "$(nm -D "$build/dsc-run" 2>/dev/null | grep -c asan)" -gt 0 ]; then
    skip "memory that the system refuses one rank ends all with both numbers" "the address sanitizer needs the space"
else
    ok "memory that the system refuses one rank ends all with both numbers" refused 600000
fi
