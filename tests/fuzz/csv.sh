#!/bin/bash
# Fuzzes the reader of CSV files.
. "${srcdir:-.}/tests/tap.sh"
. "$srcdir/tests/fuzz/fuzz.sh"

seed_corpus() {
    printf '\357\273\277a,"b",c\r\n1,"x, ""y""","two\nlines"\r\n\r\n,,' >"$root/corpus/seed"
}

fuzz "no bytes crash the reader of CSV files, and what it takes it prints as it was" csv 512 \
    "$srcdir"/lib/base/{array,csv,status,text}.c -lm
