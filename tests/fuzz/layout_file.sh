#!/bin/bash
# Fuzzes the readers of sparse layouts.
. "${srcdir:-.}/tests/tap.sh"
. "$srcdir/tests/fuzz/fuzz.sh"

seed_corpus() {
    local mode
    echo '{"block":16,"layout":[[[1,0,0],[1,1,0],[0,1,1]],[[1,1,1],[0,1,0],[0,0,1]]]}' >"$root/corpus/layout"
    for mode in fixed variable bigbird bslongformer local dense; do
        echo '{"sparse_attention":{"mode":"'$mode'","block":16,"different_layout_per_head":true,"num_local_blocks":4,
            "num_global_blocks":1,"num_different_global_patterns":2,"horizontal_global_attention":true,
            "attention":"bidirectional","num_random_blocks":1,"local_window_blocks":[4,2],"global_block_indices":[0,3],
            "global_block_end_indices":[1,4],"num_sliding_window_blocks":3}}' >"$root/corpus/$mode"
    done
}

fuzz "no bytes crash the readers of sparse layouts, and what they take reads back" layout_file 1024 \
    "$srcdir"/lib/model/{attention,layout,section,sparsity}.c \
    "$srcdir"/lib/base/{array,json,log,parse,rng,status,text}.c $("$PKG_CONFIG" --cflags --libs jansson) -lm
