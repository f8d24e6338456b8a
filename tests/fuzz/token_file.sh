#!/bin/bash
# Fuzzes the readers of token files.
. "${srcdir:-.}/tests/tap.sh"
. "$srcdir/tests/fuzz/fuzz.sh"

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
    { printf '\10\1\0\2\0\3\0\4\0MMIDIDX\0\0'; words 8:1 1:8 8:2 8:2 4:3 4:1 8:0 8:6 8:0 8:2; } >"$root/corpus/index"
    { words 1:0 4:20240520 4:1 4:1; head -c 1012 /dev/zero; words 2:5; } >"$root/corpus/llmc"
}

fuzz "no bytes crash the readers of token files" token_file 2048 \
    "$srcdir"/lib/data/{file,llmc,megatron}.c "$srcdir"/lib/base/{array,status}.c
