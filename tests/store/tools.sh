#!/bin/bash
# dsc-trace and dsc-checkpoint as a user calls them: exit statuses, messages, what stands on stdout.
. "${srcdir:-.}/tests/tap.sh"

build=$PWD
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cd "$scratch" || exit 3

# ends STATUS WORDS TOOL...: it ends with the status, and stderr holds the words, with the tool's name before them
ends() {
    local status=$1 words=$2 message got
    shift 2
    message=$("$build/$1" "${@:2}" 2>&1 >stdout)
    got=$?
    [ "$got" -eq "$status" ] && [[ $message == *"$words"* ]] && [[ -z $message || $message == "$1: "* ]] && return
    printf '%s\n' "status $got: $message"
    return 1
}

prints() { # PATTERN: the last command's stdout matches
    grep -q -- "$1" stdout || { cat stdout; return 1; }
}

# A prediction that claims to have been measured, with its steps' times multiplied by $3.
disguise() {
    /usr/bin/python3 - "$@" <<'END'
import shutil, sys
import h5py, numpy
shutil.copy(sys.argv[1], sys.argv[2])
with h5py.File(sys.argv[2], "r+") as file:
    file.attrs["kind"] = numpy.bytes_("measured")
    file["steps/t_end_ns"][:] = file["steps/t_end_ns"][()] * int(sys.argv[3])
END
}

notrace=$scratch/text.h5
echo text >"$notrace"
plan 18
"$build/dsc-plan" --model layers=2,hidden=64,heads=4,vocab=256,seq=32 --cluster local --trace p.h5 >/dev/null
report $? "dsc-plan writes a trace"
ok "a summary is printed" ends 0 "" dsc-trace summary p.h5
ok "it names the compute lane's idle time" prints '^compute *(idle)'
if [ -x /usr/bin/python3 ]; then
    ok "a summary in JSON parses" bash -c "$build/dsc-trace summary --json p.h5 | /usr/bin/python3 -m json.tool"
    ok "an export for Perfetto parses" bash -c "$build/dsc-trace export p.h5 -o - | /usr/bin/python3 -m json.tool"
else
    skip "a summary in JSON parses" "no python3"
    skip "an export for Perfetto parses" "no python3"
fi
ok "an export needs a suffix that says the form" ends 2 'neither in .json nor in .csv' dsc-trace export p.h5 -o p.txt
ok "what is no trace is bad input" ends 2 'not an HDF5 file' dsc-trace summary "$notrace"
ok "a trace is no stream" ends 2 'summary -: a trace is an HDF5 file and needs a path' dsc-trace summary -
ok "nor is a checkpoint" ends 2 'needs a path' dsc-checkpoint diff x -
ok "progress is a line on standard error" ends 0 'dsc-trace: summary p.h5' dsc-trace summary --progress p.h5
if [ -x /usr/bin/python3 ]; then
    ok "lists of presets are JSON" bash -ec "for l in models clusters; do $build/dsc-plan --list-\$l --json |
        /usr/bin/python3 -c 'import json, sys; assert len({p[\"name\"] for p in json.load(sys.stdin)}) > 5'; done"
else
    skip "lists of presets are JSON" "no python3"
fi
ok "a damaged file is bad input" bash -c "head -c 3000 p.h5 >cut.h5; ! $build/dsc-trace summary cut.h5"
ok "a prediction is no measurement" ends 2 'a predicted trace where a measured one is taken' dsc-trace diff p.h5 p.h5
if disguise p.h5 m.h5 1 && disguise p.h5 slow.h5 2; then
    ok "equal steps are within the tolerance" ends 0 "" dsc-trace diff p.h5 m.h5
    ok "steps that take twice as long are not, with status 1" ends 1 'more than the tol' dsc-trace diff p.h5 slow.h5
else
    skip "equal steps are within the tolerance" "no h5py"
    skip "steps that take twice as long are not, with status 1" "no h5py"
fi
ok "no checkpoint is bad input" ends 2 'No such file' dsc-checkpoint verify nowhere
ok "a misspelt command is corrected" ends 2 'did you mean "verify"' dsc-checkpoint verfy x
ok "export is refused with a reason" ends 2 'not implemented' dsc-checkpoint export x -o y
