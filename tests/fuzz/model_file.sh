#!/bin/bash
# Fuzzes the readers of models.
. "${srcdir:-.}/tests/tap.sh"
. "$srcdir/tests/fuzz/fuzz.sh"

seed_corpus() {
    echo '{"model_type":"gpt2","n_layer":2,"n_embd":64,"n_head":4,"vocab_size":256,"n_positions":32,"n_inner":null,
        "activation_function":"gelu_new","layer_norm_epsilon":1e-5,"resid_pdrop":0.1}' >"$root/corpus/gpt2"
    echo '{"model_type":"llama","num_hidden_layers":2,"hidden_size":64,"num_attention_heads":4,"vocab_size":256,
        "max_position_embeddings":32,"intermediate_size":128,"num_key_value_heads":2,"hidden_act":"silu",
        "rms_norm_eps":1e-5,"rope_theta":10000.0,"tie_word_embeddings":false}' >"$root/corpus/llama"
    echo '{"layers":2,"hidden":64,"heads":4,"kv_heads":2,"vocab":256,"seq":32,"ffn":96,"gated":1,"norm":"rms",
        "pos":"rope","causal":true,"tied":0} // ours' >"$root/corpus/keys"
    printf 'layers=2,hidden=64,heads=4,vocab=256,seq=32,kv_heads=2,ffn=128,gated=1,norm=rms,pos=rope,causal=0,tied=0' \
        >"$root/corpus/inline"
}

fuzz "no bytes crash the readers of models, and what they take reads back" model_file 1024 \
    "$srcdir"/lib/model/{hf,inline,model,preset,tensors}.c \
    "$srcdir"/lib/base/{array,json,log,parse,rng,status,text}.c $("$PKG_CONFIG" --cflags --libs jansson) -lm
