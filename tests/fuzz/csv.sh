#!/bin/bash
# Fuzzes the reader of CSV files for FUZZ_SECONDS (10), when clang and its fuzzer are there.
. "${srcdir:-.}/tests/tap.sh"

root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
claim="no bytes crash the reader of CSV files, and what it takes it prints as it was"

build() {
    clang -g -O1 -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=undefined -D_GNU_SOURCE -I"$srcdir/lib" \
        -o "$root/csv" "$srcdir/tests/fuzz/csv.c" "$srcdir"/lib/base/{array,csv,status,text}.c -lm
}

seed_corpus() {
    mkdir "$root/corpus"
    printf '\357\273\277a,"b",c\r\n1,"x, ""y""","two\nlines"\r\n\r\n,,' >"$root/corpus/seed"
}

fuzz() {
    "$root/csv" -max_total_time="${FUZZ_SECONDS:-10}" -max_len=512 -verbosity=0 -print_final_stats=1 \
        -artifact_prefix="$root/" "$root/corpus"
}

build_and_fuzz() { build && seed_corpus && fuzz; }

plan 1
if can_fuzz; then
    ok "$claim" build_and_fuzz
else
    skip "$claim" "clang or its fuzzer is not there"
fi
