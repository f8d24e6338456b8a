#!/bin/bash
# Fuzzes the readers of token files for FUZZ_SECONDS (10), when clang and its fuzzer are there.
. "${srcdir:-.}/tests/tap.sh"

root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
claim="no bytes crash the readers of token files"

build() {
    clang -g -O1 -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=undefined -D_GNU_SOURCE -I"$srcdir/lib" \
        -o "$root/token_file" "$srcdir"/tests/fuzz/token_file.c "$srcdir"/lib/data/{file,llmc,megatron}.c \
        "$srcdir"/lib/base/{array,status}.c
}

# words BYTES:VALUE...: little-endian numbers
words() {
    local word bytes value
    for word; do
        value=${word#*:}
        for ((bytes = ${word%:*}; bytes > 0; bytes--, value >>= 8)); do printf "\\x$(printf %x $((value & 255)))"; done
    done
}

# From valid files: an index of 8 bytes of tokens, and a token file with one token
seed_corpus() {
    mkdir "$root/corpus"
    { printf '\10\1\0\2\0\3\0\4\0MMIDIDX\0\0'; words 8:1 1:8 8:2 8:2 4:3 4:1 8:0 8:6 8:0 8:2; } >"$root/corpus/index"
    { words 1:0 4:20240520 4:1 4:1; head -c 1012 /dev/zero; words 2:5; } >"$root/corpus/llmc"
}

fuzz() {
    "$root/token_file" -max_total_time="${FUZZ_SECONDS:-10}" -max_len=2048 -verbosity=0 -print_final_stats=1 \
        -artifact_prefix="$root/" "$root/corpus"
}

build_and_fuzz() { build && seed_corpus && fuzz; }

plan 1
if can_fuzz; then
    ok "$claim" build_and_fuzz
else
    skip "$claim" "clang or its fuzzer is not there"
fi
