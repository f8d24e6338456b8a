#!/bin/bash
# dsc-plan --what-if: each row is what a description changed by hand gives; faster parts never make a step slower.
. "${srcdir:-.}/tests/tap.sh"

build=$PWD
scratch=$(mktemp -d "${TMPDIR:-/tmp}/dsc-test-XXXXXX")
trap 'rm -rf "$scratch"' EXIT
cd "$scratch" || exit 3

job=(--model layers=16,hidden=2048,heads=16,vocab=50304,seq=2048 --tp 4 --pp 2 --dp 4 --global-batch 32
    --precision bf16)

# asks WORDS...: rows to rows
asks() { "$build/dsc-plan" "${job[@]}" --cluster dgx-a100-80g:4 --what-if --json "$@" >rows 2>notes; }
rows_hold() {
    /usr/bin/python3 -c "
import json
rows = json.load(open('rows')); by = {r['change']: r for r in rows}
assert (
$1), rows"
}

# changes PYTHON: changed.json is the described cluster after the statement, of c, its node type n and its device d
changes() {
    "$build/dsc-plan" --cluster dgx-a100-80g:4 --explain >described.json && /usr/bin/python3 - "$1" <<'END'
import json, sys
c = json.load(open("described.json"))
n = next(iter(c["node_types"].values()))
d = n["devices"][0]
exec(sys.argv[1])
json.dump(c, open("changed.json", "w"))
END
}

# as_by_hand NAME PYTHON: the row of that name has the step of a cluster c that the statement changed
as_by_hand() {
    changes "$2" || return
    "$build/dsc-plan" "${job[@]}" --cluster changed.json --json >one || [ $? -eq 1 ] || return
    /usr/bin/python3 - "$1" <<'END'
import json, sys
row = next(r for r in json.load(open("rows")) if r["change"] == sys.argv[1])
one = json.load(open("one"))
assert row["step_s"] == one["time"]["step_s"] and row["peak_bytes"] == one["memory"]["peak_bytes"] and \
    row["capacity_bytes"] == one["memory"]["capacity_bytes"] and row["feasible"] == one["feasible"], (row, one)
END
}

are_as_by_hand() {
    asks || return
    as_by_hand "as described" "pass" &&
        as_by_hand "links between devices x 2" "n['links'][0]['bytes_per_s'] *= 2" &&
        as_by_hand "links between devices / 2" "n['links'][0]['bytes_per_s'] /= 2" &&
        as_by_hand "network / 2" "n['nics'][0]['bytes_per_s'] /= 2; c['network'][0]['bytes_per_s'] /= 2" &&
        as_by_hand "links to the host x 2" "n['links'][1]['bytes_per_s'] *= 2; n['host_bandwidth_bytes_per_s'] *= 2" &&
        as_by_hand "peak rate x 2" "d['peak_flops'] = {k: 2 * v for k, v in d['peak_flops'].items()}" &&
        as_by_hand "memory's rate x 2" "d['bandwidth_bytes_per_s'] *= 2" &&
        as_by_hand "memory + 50 %" "d['memory_bytes'] = int(1.5 * d['memory_bytes'] + 0.5)" &&
        as_by_hand "memory - 50 %" "d['memory_bytes'] = int(0.5 * d['memory_bytes'] + 0.5)"
}

# Of several strategies, one that waits for its host too, and one whose ranks slower links would order better
never_loses() {
    local words
    while read words; do # lines that end in \ go on
        # shellcheck disable=SC2086,SC2162
        asks $words || return
        rows_hold 'all(r["step_ratio"] <= 1.0 for r in rows if " x 2" in r["change"] or
            r["change"] == "launches / 2")' &&
            rows_hold 'all(r["step_ratio"] >= 1.0 for r in rows if r["change"].endswith("/ 2") and "launch" not in
            r["change"])' && ! grep 'makes the step slower' notes || return
    done <<'END'

--zero 1 --recompute selective --sequence-parallel
--tp 2 --dp 8 --zero 2 --pp 1 --offload optimizer
--model layers=16,hidden=2048,heads=16,vocab=51200,seq=1024 --cluster frontier-mi250x:4 --tp 8 --pp 2 --dp 2 --zero 2 \
--recompute selective --global-batch 8 --precision fp16
--tp 1 --pp 4 --dp 2 --schedule zb-h1 --stack megatron-2021
END
    rows_hold 'by["launches / 2"]["step_ratio"] < 1'
}

# What a launch takes the GPU is described; what it takes the host is the software's, and halved too.
halves_hosts() {
    local eager=(--tp 8 --pp 4 --dp 1 --global-batch 8 --stack megatron-2021)
    changes "d['efficiency']['launch_ns'] //= 2" && asks "${eager[@]}" &&
        "$build/dsc-plan" "${job[@]}" --cluster changed.json "${eager[@]}" --json >one &&
        rows_hold 'by["launches / 2"]["step_s"] < 0.95 * json.load(open("one"))["time"]["step_s"]'
}

# 0.5 of a capacity that the command line gives
halves_given_memory() {
    local peak
    peak=$("$build/dsc-plan" "${job[@]}" --cluster dgx-a100-80g:4 --json |
        /usr/bin/python3 -c 'import json, sys; print(json.load(sys.stdin)["memory"]["peak_bytes"])') &&
        asks --device-memory $((peak + peak / 2)) && rows_hold 'by["as described"]["feasible"] and
        by["memory + 50 %"]["feasible"] and not by["memory - 50 %"]["feasible"] and by["memory - 50 %"]["reason"]'
}

says_no() {
    asks --device-memory 1GiB
    [ $? -eq 1 ] && rows_hold 'not any(r["feasible"] for r in rows)' && grep 'a rank has 1.00 GiB' notes
}

shows_table() {
    "$build/dsc-plan" "${job[@]}" --cluster dgx-a100-80g:4 --what-if >table && [ "$(wc -l <table)" -eq 12 ] &&
        grep -E '^peak rate x 2 .* -[0-9.]+ % .* tokens/s .* of .*GiB  fits$' table
}

refuses() {
    local pattern=$1
    shift
    asks "$@"
    [ $? -eq 2 ] && [ ! -s rows ] && [ "$(wc -l <notes)" -eq 1 ] && grep -E -- "$pattern" notes
}

plan 7
ok "rows are what descriptions changed by hand give" are_as_by_hand
ok "what is faster makes no step slower, what is slower none faster" never_loses
ok "a launch takes the host half as long too" halves_hosts
ok "a capacity of the command line changes too" halves_given_memory
ok "what does not fit as described ends with status 1" says_no
ok "people get a table" shows_table
ok "what it goes without is refused" eval "refuses 'without --trace' --trace t.h5 && refuses 'calibration' \
    --calibration c.h5 && refuses 'are two questions; ask one' --break-even"
