#!/bin/bash
# Fuzzes the reader of configurations.
. "${srcdir:-.}/tests/tap.sh"
. "$srcdir/tests/fuzz/fuzz.sh"

seed_corpus() {
    local type
    echo '{"train_batch_size":64,"train_micro_batch_size_per_gpu":4,"gradient_accumulation_steps":4,
        "gradient_clipping":1.0,"steps_per_print":5e2,"fp16":{"enabled":true,"loss_scale":0,"initial_scale_power":16,
        "loss_scale_window":1000,"hysteresis":2,"min_loss_scale":1},"zero_optimization":{"stage":2,
        "reduce_bucket_size":5e8,"overlap_comm":true,"offload_optimizer":{"device":"cpu","pin_memory":true}},
        "optimizer":{"type":"OneBitAdam","params":{"lr":1e-3,"betas":[0.9,0.999],"eps":1e-8,"weight_decay":0.1,
        "freeze_step":100}}}' >"$root/corpus/deepspeed"
    for type in WarmupLR WarmupDecayLR WarmupCosineLR LRRangeTest OneCycle; do
        echo '{"scheduler":{"type":"'$type'","params":{"warmup_min_lr":0,"warmup_max_lr":1e-3,"warmup_num_steps":10,
            "total_num_steps":100,"cycle_min_lr":1e-4,"cycle_max_lr":1e-3,"lr_range_test_min_lr":1e-4}},
            "bf16":{"enabled":true}}' >"$root/corpus/$type"
    done
    for type in fixed variable bigbird bslongformer local dense; do
        echo '{"sparse_attention":{"mode":"'$type'","block":16,"different_layout_per_head":true,"num_local_blocks":4,
            "num_global_blocks":1,"attention":"bidirectional","num_random_blocks":1,"local_window_blocks":[4,2],
            "global_block_indices":[0,3],"global_block_end_indices":[1,4],"num_sliding_window_blocks":3}}' \
            >"$root/corpus/$type"
    done
    echo '{"dsc":{"tp":2,"pp":2,"schedule":"zb-h1","micro_batch":2,"device_memory":"8GiB","offload_ratio":"auto",
        "rank_order":"tp,dp,pp","attention":"bigbird,0=dense,2-3=dense-unfused","recompute":"full"}} # ours' \
        >"$root/corpus/dsc"
}

fuzz "no bytes crash the reader of configurations, and what it takes reads back" config_file 2048 \
    "$srcdir"/lib/config/{batch,check,fields,freezer,intervals,json,keys,lr,print,scaler}.c \
    "$srcdir"/lib/model/{attention,layout,section,sparsity}.c "$srcdir"/lib/kernel/kernel.c \
    "$srcdir"/lib/base/{array,json,log,parse,rng,status,text}.c $("$PKG_CONFIG" --cflags --libs jansson) -lm
