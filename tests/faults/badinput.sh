#!/bin/bash
# Bad input gets one clear message, which says what is wrong, and exit status 2, in seconds and on any number of ranks;
# nothing on stdout, no process left behind. The cases are in badinput.txt.
. "${srcdir:-.}/tests/exec/job.sh" || exit 3

table=$srcdir/tests/faults/badinput.txt

# bytes HEX...: as they are
bytes() { printf '%b' "$(printf '%s' "$@" | sed 's/../\\x&/g')"; }

# token_file MAGIC VERSION COUNT TOKEN: as llm.c writes them; numbers are little-endian in hexadecimal, 4000 tokens
token_file() {
    bytes "$1" "$2" "$3"
    head -c 1012 /dev/zero
    bytes "$(printf "%04000d" 0 | sed "s/0/$4/g")"
}

make_files() {
    mkdir folder
    : >empty.txt
    echo "too short" >tiny.txt
    { head -c 380 text.txt; printf '\303\251'; tail -c 20 text.txt; } >past_vocab.txt # one batch, all of which is read
    token_file 88d83401 01000000 a00f0000 2000 >good.bin
    token_file 01020304 01000000 a00f0000 2000 >magic.bin
    token_file 88d83401 07000000 a00f0000 2000 >version.bin
    token_file 88d83401 01000000 a00f0000 2c01 >past_vocab.bin
    head -c 3000 good.bin >truncated.bin
    head -c 100 good.bin >header.bin
    echo "no tokens" | tee megatron.bin >megatron.idx
    echo "<topology" >broken.xml
    echo '{"train_batch_size": 16,' >broken.json
    echo '[]' >list.json
    echo '{"train_batch_sise": 16}' >unknown_key.json
    echo '{"zero_optimization": {"stage": 0, "reduce_buckt_size": 1000}}' >unknown_zero_key.json
    echo '{"train_batch_size": "sixteen"}' >wrong_type.json
    echo '{"train_batch_size": 16, "train_micro_batch_size_per_gpu": 3}' >uneven_batch.json
    echo '{"train_batch_size": 4611686018427387904}' >huge_batch.json
    echo '{"optimizer": {"type": "Adamw2"}}' >optimizer.json
    layout_files
    echo '{"scheduler": {"type": "WarmupLr", "params": {}}}' >scheduler.json
    echo '{"fp16": {"enabled": true}, "bf16": {"enabled": true}}' >both_halves.json
    echo '{"optimizer": {"type": "AdamW", "params": {"betas": [0.9, 1.5]}}}' >beta.json
    echo '{"optimizer": {"type": "AdamW", "params": {"lr": NaN}}}' >nan.json
    echo '{"optimizer": {"type": "AdamW", "params": {"lr": -0.001}}}' >rate.json
    local gpt2='"model_type": "gpt2", "n_layer": 2, "n_positions": 32, "vocab_size": 256'
    echo "{$gpt2, \"n_head\": 2}" >no_hidden.json
    echo "{$gpt2, \"n_head\": 5, \"n_embd\": 48}" >heads.json
    echo '{"model_type": "mamba", "hidden_size": 64, "num_hidden_layers": 2, "vocab_size": 256}' >family.json
    cluster devises 8 slow >cluster_key.json
    cluster devices 4611686018427387904 slow >cluster_count.json
    cluster devices 8 fast >cluster_type.json
    cluster devices 8 slow | sed 's/"slow", "count": 2/"slow", "count": 0/' >cluster_nodes.json
    cluster devices 8 slow | sed 's/\("nics": .*"bytes_per_s": \)1e10/\1-5/' >cluster_rate.json
    cluster devices 8 slow | sed 's/"network": \[/&{"tier": "rack", "nodes": 4, "bytes_per_s": 1, "latency_ns": 1}, /
        s/"nodes": 32/"nodes": 2/' >cluster_tiers.json
}

# Sections and layouts of sparse attention, for 5 heads over 16 tokens
layout_files() {
    echo '{"sparse_attention": {"mode": "sliding"}}' >mode.json
    echo '{"sparse_attention": {"mode": "fixed", "blok": 16}}' >section_key.json
    echo '{"sparse_attention": {"mode": "fixed", "block": "16"}}' >section_type.json
    echo '{"sparse_attention": "fixed"}' >section_text.json
    echo '{"sparse_attention": {"mode": "fixed", "block": 24}}' >section_block.json
    echo '{"block": 16, "layout": [[[1]], [[1]]]}' >two_heads.json
    echo '{"block": 16, "layout": [[[1, 0], [1, 1]]]}' >two_blocks.json
    echo '{"block": 16, "layout": [[[2]]]}' >two.json
    "$build/tests/faults/layout_files" && head -c 1500 good.h5 >truncated.h5 && echo "no layout" >text.h5
}

cluster() { # KEY COUNT TYPE: a description with something wrong
    cat <<END
{"dsc_cluster": 1, "nodes": [{"type": "$3", "count": 2}], "node_types": {"slow": {"$1": [{"name": "d", "count": $2,
"memory_bytes": 80000000000, "bandwidth_bytes_per_s": 2e12, "peak_flops": {"fp32": 1e13}}], "cores": 64,
"host_memory_bytes": 100000000000, "links": [{"name": "l", "between": ["device", "device"], "topology": "switch",
"bytes_per_s": 3e11, "latency_ns": 1000}], "nics": [{"count": 1, "bytes_per_s": 1e10, "latency_ns": 1000}]}},
"network": [{"tier": "leaf", "nodes": 32, "bytes_per_s": 1e10, "latency_ns": 1000, "oversubscription": 1.0}]}
END
}

# refused RANKS PATTERN TOOL OPTIONS...
refused() {
    local ranks=$1 pattern=$2 status
    shift 2
    limit=5 launch "$ranks" "$@" >stdout 2>stderr
    status=$?
    cat stderr
    [ $status -eq 2 ] || { echo "status $status"; return 1; }
    [[ $(<stderr) =~ $pattern ]] || { echo "the message does not say $pattern"; return 1; }
    [ "$(wc -l <stderr)" -le 5 ] || { echo "more than 5 lines"; return 1; }
    [ -z "$(sort stderr | uniq -d)" ] || { echo "said twice"; return 1; }
    ! grep -Ei 'assert|core dumped|segmentation|abort|signal|sanitizer|runtime error' stderr || return
    [ ! -s stdout ] || { echo "stdout is not empty"; return 1; }
    [ -z "$(left_behind)" ] || left_behind
}

# Words of a command are split where spaces are.
refuse() { # RANKS | COMMAND | PATTERN
    local counts words pattern ranks
    IFS='|' read -r counts words pattern <<<"${1// | /|}"
    case $words in
    run\ *) words="dsc-run --model $tiny --data text.txt --steps 1 --global-batch 16 ${words#run }" ;;
    plan\ *) words="dsc-plan --model gpt2 --cluster dgx-a100-80g ${words#plan }" ;;
    esac
    for ranks in ${counts//,/ }; do
        # shellcheck disable=SC2086
        ok "refused: n=$ranks $2" refused "$ranks" "$pattern" $words
    done
}

make_files
mapfile -t cases < <(grep -v -e '^#' -e '^$' "$table")
plan $((${#cases[@]} + $(grep -c '^[0-9],[0-9] ' "$table")))
for line in "${cases[@]}"; do
    words=${line#* | }
    refuse "$line" "${words%% | *}"
done
