#!/bin/bash
# dsc-bench as a user calls it: what it lists, measures, writes and refuses; and that dsc-plan prices with it.
. "${srcdir:-.}/tests/tap.sh"

build=$PWD
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cd "$scratch" || exit 3
export DSC_MPIEXEC=${MPIEXEC:-mpiexec}

# refuses WORDS OPTION...: ends with status 2, nothing on stdout, the words on stderr
refuses() {
    local words=$1 message status
    shift
    message=$("$build/dsc-bench" "$@" 2>&1 >stdout)
    status=$?
    [ "$status" -eq 2 ] && [[ $message == "dsc-bench: "*"$words"* ]] && [ ! -s stdout ] && return
    printf '%s\n' "status $status: $message"
    return 1
}

# The object on standard input holds what the expression of d says.
holds() { /usr/bin/python3 -c "import json, sys; d = json.load(sys.stdin); sys.exit(not ($1))"; }

lists() {
    "$build/dsc-bench" --list --json | holds '"gemm" in d and "collectives" in d and "sign_average" in d and
        "load" not in d and "block_sdd" not in d'
}

measures() {
    "$build/dsc-bench" --quick --json cast collectives -o cast.h5 >cast.json || return
    holds '{k["ranks"] for k in d["kernels"]} >= {1} and all(k["time_ns"] > 0 for k in d["kernels"])' <cast.json ||
        return
    holds '{(c["kind"], c["ranks"]) for c in d["collectives"]} >= {(kind, 2) for kind in
        ("all_reduce", "reduce_scatter", "all_gather", "send")} and
        all(c["time_ns"] > 0 and c["at_work"] >= c["ranks"] for c in d["collectives"])' <cast.json
}

prices() {
    "$build/dsc-plan" --cluster local --calibration cast.h5 --model layers=1,hidden=64,heads=4,vocab=64,seq=32 --json |
        holds 'd["time"]["step_s"] > 0'
}

compresses() {
    "$build/dsc-bench" --quick --json momentum sign_compress sign_average sign_expand lamb_norms lamb_trust \
        lamb_step |
        holds 'len({k["kernel"] for k in d["kernels"]}) == 7 and all(k["time_ns"] > 0 for k in d["kernels"])'
}

# 11 lines: three kernels with units of three sizes, and two that know no units; rates are bytes over seconds.
compares() {
    "$build/dsc-bench" --compression 1048576 --json | /usr/bin/python3 -c '
import json, sys
rows = [json.loads(line) for line in sys.stdin]
assert len(rows) == 11 and {r["unit"] for r in rows} == {1 << 18, 1 << 20}, rows
for r in rows:
    assert r["kernel_s"] > 0 and r["copy_s"] > 0, r
    assert abs(r["kernel_GB_per_s"] - r["bytes"] / r["kernel_s"] / 1e9) <= 0.02 * r["kernel_GB_per_s"] + 0.01, r
'
}

without_launcher() {
    DSC_MPIEXEC=$scratch/none "$build/dsc-bench" --quick cast >table 2>message && grep -q 'only one rank' message &&
        grep -q '^cast ' table
}

if [ ! -x "$build/dsc-bench" ]; then
    plan 1
    skip "dsc-bench measures" "built without MPI"
    exit
fi
plan 11
ok "--list names kernels and collectives, but not what the executor does itself" lists
ok "a kernel that does not exist is refused, and the nearest named" refuses 'did you mean "gemm"' gem
ok "an option that does not exist is refused" refuses '--quick' --quik
ok "a folder that is not there is refused before anything is measured" refuses 'none/m.h5' -o none/m.h5
ok "standard output is no place for HDF5" refuses 'needs a path' -o -
ok "times are measured on one rank at least, and written" measures
ok "dsc-plan prices with them" prices
ok "so are those of compression, on valid lists and packets" compresses
ok "--compression compares each kernel with a copy, on units of three sizes" compares
ok "elements that units do not divide are refused, with both numbers" refuses '1000: no multiple of 1048576' \
    --compression 1000
ok "without a launcher one rank is measured, and that is said" without_launcher
