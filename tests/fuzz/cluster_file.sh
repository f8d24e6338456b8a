#!/bin/bash
# Fuzzes the reader of clusters' JSON for FUZZ_SECONDS (10), when clang and its fuzzer are there.
. "${srcdir:-.}/tests/tap.sh"

root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
claim="no JSON crashes the reader of clusters, nor paths through what it reads"

build() {
    clang -g -O1 -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=undefined -D_GNU_SOURCE -I"$srcdir" \
        -I"$srcdir/lib" -o "$root/cluster_file" "$srcdir"/tests/fuzz/cluster_file.c \
        "$srcdir"/lib/cluster/{cluster,hwloc,json,local,network,preset,query}.c "$srcdir"/sim/{fabric,links,stack}.c \
        "$srcdir"/lib/base/{array,json,parse,status,text}.c "$srcdir"/lib/kernel/kernel.c \
        $("$PKG_CONFIG" --cflags --libs jansson hwloc) -lm
}

# The manual's examples, without what jansson does not know
seed_corpus() {
    local example
    mkdir "$root/corpus"
    for example in "$srcdir"/doc/examples/clusters/*.json; do
        sed 's/^ *#.*//' "$example" >"$root/corpus/${example##*/}"
    done
}

fuzz() {
    "$root/cluster_file" -max_total_time="${FUZZ_SECONDS:-10}" -max_len=4096 -verbosity=0 -print_final_stats=1 \
        -artifact_prefix="$root/" "$root/corpus"
}

build_and_fuzz() { build && seed_corpus && fuzz; }

plan 1
if can_fuzz; then
    ok "$claim" build_and_fuzz
else
    skip "$claim" "clang or its fuzzer is not there"
fi
