#!/bin/bash
# doc/program.md's tables are the source's.
. "${srcdir:-.}/tests/tap.sh"

in_doc() { sed -n '/begin op table/,/end op table/p' "$srcdir/doc/program.md" | sed '1d;$d'; }

plan 1
empty "doc/program.md shows the op table as it is" "$(diff <(in_doc) <(tests/program/op-table))"
