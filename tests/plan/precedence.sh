#!/bin/bash
# Whose word on attention counts: the command line's before CONFIG's, --attention before a section. What runs is told by
# the program's hash. Layouts from JSON and from HDF5 make one program.
. "${srcdir:-.}/tests/tap.sh"

build=$PWD
scratch=$(mktemp -d "${TMPDIR:-/tmp}/dsc-test-XXXXXX")
trap 'rm -rf "$scratch"' EXIT
cd "$scratch" || exit 3

program() { # WORDS...: its hash
    local model=layers=3,hidden=32,heads=4,vocab=64,seq=128
    "$build/dsc-plan" --model $model --cluster local --json "$@" >plan.json || return
    grep -o '"program_hash": *"[^"]*"' plan.json
}

# same WORDS... = WORDS...: one program
same() {
    local left=() hash
    while [ "$1" != = ]; do left+=("$1"); shift; done
    shift
    hash=$(program "${left[@]}") && [ -n "$hash" ] && [ "$hash" = "$(program "$@")" ]
}

others() { ! same "$@"; }

bigbird='{"mode": "bigbird", "num_sliding_window_blocks": 1}'
cat >c.json <<END
{"sparse_attention": $bigbird} # a section alone
END
cat >word.json <<END
{"sparse_attention": $bigbird, "dsc": {"attention": "local"}}
END
cat >reference.json <<END
{"dsc": {"attention": "fixed", "reference_layout": true}}
END

# The same blocks in both; head by head the layouts of two patterns
files() {
    "$build/dsc-plan" --show-layout variable --num-heads 4 --seq-len 128 --json >l.json
    /usr/bin/python3 - <<'END'
import h5py, json, numpy
layout = json.load(open("l.json"))
cells = numpy.array(layout["layout"])
with h5py.File("l.h5", "w") as file:
    for name, values in (("layout", cells), ("bool", cells.astype(bool)), ("byte", cells.astype("u1"))):
        data = file.create_dataset(name, data=values, compression="gzip")
        data.attrs["block"] = layout["block"]
END
}

plan 15
ok "a section is CONFIG's attention" same --config c.json = --sparse-attention "$bigbird"
ok "which is another than dense" others --config c.json = --attention dense
ok "--attention goes before CONFIG's section" same --config c.json --attention dense = --attention dense
ok "it may name the section, for some layers" \
    same --config c.json --attention dense,1=sparse = --attention dense,1=sparse --sparse-attention "$bigbird"
ok "--sparse-attention goes before CONFIG's section" \
    same --config c.json --sparse-attention '{"mode": "local"}' = --attention local
ok "CONFIG's word goes before its section" same --config word.json = --attention local
ok "--attention goes before CONFIG's word" same --config word.json --attention variable = --attention variable
ok "and may ask for the section" same --config word.json --attention sparse = --sparse-attention "$bigbird"
ok "--reference-layout is another program" others --attention fixed = --attention fixed --reference-layout
ok "CONFIG may say it" same --config reference.json = --attention fixed --reference-layout
ok "the command line takes it back" same --config reference.json --no-reference-layout = --attention fixed
ok "a section in a file of its own is the section" same --attention ./c.json = --sparse-attention "$bigbird"
if /usr/bin/python3 -c 'import h5py' 2>/dev/null; then
    files
    ok "h5py's integers are JSON's layout" same --attention ./l.h5 = --attention ./l.json
    ok "so are its booleans" same --attention ./l.h5:bool = --attention ./l.json
    ok "and its bytes" same --attention ./l.h5:/byte = --attention ./l.json
else
    for word in integers booleans bytes; do skip "h5py's $word are JSON's layout" "h5py is not there"; done
fi
