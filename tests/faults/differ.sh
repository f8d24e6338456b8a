#!/bin/bash
# Ranks that were told different things, by options or by files of the same name, do not train.
. "${srcdir:-.}/tests/exec/job.sh" || exit 3

model=layers=2,hidden=64,heads=4,vocab=256,seq=128

# differ OPTIONS -- OPTIONS: what each of two ranks gets; exit status 2 and one line
differ() {
    local first=() common=(--model "$model" --data text.txt --dp 2 --steps 2) status
    while [ "$1" != -- ]; do first+=("$1"); shift; done
    shift
    timeout 60 $MPIEXEC -n 1 "$build/dsc-run" "${common[@]}" "${first[@]}" : \
        -n 1 "$build/dsc-run" "${common[@]}" "$@" >lines 2>messages
    status=$?
    cat messages
    [ $status -eq 2 ] && [ "$(grep -c 'ranks were told different things' messages)" -eq 1 ]
}

by_layout() { # as many blocks in other places
    layout 4 8 1 >x.json && sed 's/1, 0, 0, 1, 0, 0, 0, 0/1, 0, 1, 0, 0, 0, 0, 0/' x.json >y.json || return
    cmp -s x.json y.json && return 1
    differ --attention ./x.json -- --attention ./y.json
}

plan 3
ok "other layouts" by_layout
ok "another recomputation" differ --recompute full -- --recompute none
ok "another learning rate" differ --lr 1e-3 -- --lr 2e-3
