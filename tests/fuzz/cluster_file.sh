#!/bin/bash
# Fuzzes the reader of clusters' JSON.
. "${srcdir:-.}/tests/tap.sh"
. "$srcdir/tests/fuzz/fuzz.sh"

# The manual's examples, without what jansson does not know
seed_corpus() {
    local example
    for example in "$srcdir"/doc/examples/clusters/*.json; do
        sed 's/^ *#.*//' "$example" >"$root/corpus/${example##*/}"
    done
}

fuzz "no JSON crashes the reader of clusters, nor paths through what it reads" cluster_file 4096 \
    "$srcdir"/lib/cluster/{cluster,devices,hwloc,json,local,network,preset,query}.c \
    "$srcdir"/sim/{fabric,links,stack}.c "$srcdir"/lib/base/{array,json,log,parse,status,text}.c \
    "$srcdir"/lib/kernel/kernel.c $("$PKG_CONFIG" --cflags --libs jansson hwloc) -lm
