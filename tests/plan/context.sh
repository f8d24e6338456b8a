#!/bin/bash
# Context parallelism and fp8, which are planned and not run.
. "${srcdir:-.}/tests/tap.sh"
plan 9

build=$PWD

model=layers=4,hidden=1024,heads=16,vocab=50304,seq=8192
evaluate() { "$build/dsc-plan" --model "$model" --cluster dgx-h100:1 --json "$@"; }
# value KEY...: of the JSON on standard input
value() { python3 -c 'import json, sys
value = json.load(sys.stdin)
for key in sys.argv[1:]: value = value[key]
print(value)' "$@"; }

eight=$(evaluate --precision bf16 --dp 1 --cp 8 --recompute none) || eight='{}'
one=$(evaluate --precision bf16 --dp 1 --recompute none) || one='{}'

# of the slot everything but the tokens' last column goes by tokens
an_eighth() { # ONE EIGHT
    python3 -c 'import sys; one, eight = map(int, sys.argv[1:]); sys.exit(not 0.99 < 8 * eight / one < 1.01)' "$@"
}
ok "with cp 8 a rank keeps an eighth of the activations" an_eighth \
    "$(value memory activations_bytes <<<"$one")" "$(value memory activations_bytes <<<"$eight")"

# k and v of 8192 tokens, 2 x 1024 columns in 2 bytes, gathered twice and scattered once a layer: (N - 1) n each, and
# the gradients' all-reduce, 2 (N - 1) n, in bf16, of all parameters, padding included; scalars are small.
traffic() {
    local got
    got=$(value wire_bytes_per_step <<<"$eight") &&
        python3 - "$got" <<'END'
import sys
keys = 4 * 3 * 7 * (8192 * 2 * 1024 * 2)
parameters = 50304 * 1024 + 8192 * 1024 + 4 * (12 * 1024**2 + 13 * 1024) + 2 * 1024
expected = keys + 2 * 7 * 2 * parameters
sys.exit(not abs(int(sys.argv[1]) / expected - 1) < 0.001)
END
}
ok "gathered keys and summed gradients are all that cp sends" traffic

shards() {
    local whole cut
    whole=$(evaluate --precision bf16 --dp 2 --cp 4 --global-batch 2 | value memory optimizer_bytes) &&
        cut=$(evaluate --precision bf16 --dp 2 --cp 4 --global-batch 2 --zero 1 | value memory optimizer_bytes) &&
        python3 -c 'import sys; a, b = map(int, sys.argv[1:]); sys.exit(not 0.99 < 8 * b / a < 1.02)' "$whole" "$cut"
}
ok "ZeRO cuts states over cp x dp" shards

faster() {
    python3 -c 'import sys; one, eight = map(float, sys.argv[1:]); sys.exit(not 5 < one / eight <= 8)' "$@"
}
ok "eight context ranks compute five to eight times as fast as one" faster \
    "$(value time compute_s <<<"$one")" "$(value time compute_s <<<"$eight")"

refuses() { # WORD... -- COMMAND...: exit status 2, all words in the message
    local words=() message word
    while [ "$1" != -- ]; do words+=("$1"); shift; done
    shift
    message=$("$@" 2>&1 >/dev/null)
    [ $? -eq 2 ] || return 1
    for word in "${words[@]}"; do [[ $message == *"$word"* ]] || return 1; done
}
run() { mpiexec -n 2 "$build/dsc-run" --model layers=2,hidden=64,heads=2,vocab=256,seq=32 --data "$0" --steps 1 "$@"; }
ok "dsc-run refuses cp with a reason" refuses --cp "not run" -- run --cp 2
ok "dsc-run refuses fp8 with a reason" refuses --precision "not run" -- run --precision fp8

fp8=$(evaluate --precision fp8) || fp8='{}'
bf16=$(evaluate --precision bf16) || bf16='{}'
less() { python3 -c 'import sys; a, b = map(float, sys.argv[1:]); sys.exit(not a < b)' "$@"; }
ok "products in fp8 make a step faster" less "$(value time step_s <<<"$fp8")" "$(value time step_s <<<"$bf16")"
same() { [ "$1" = "$2" ] && [ -n "$1" ]; }
ok "fp8 changes no state, which stay in bf16 and fp32" same \
    "$(value memory optimizer_bytes <<<"$fp8") $(value memory parameters_bytes <<<"$fp8")" \
    "$(value memory optimizer_bytes <<<"$bf16") $(value memory parameters_bytes <<<"$bf16")"
half() {
    python3 -c 'import sys; a, b, f, g = map(float, sys.argv[1:]); sys.exit(abs(f / a / (g / b) - 0.5) > 0.001)' "$@"
}
ok "its utilization is of fp8's peak" half "$(value tflops_per_gpu <<<"$fp8")" "$(value tflops_per_gpu <<<"$bf16")" \
    "$(value mfu <<<"$fp8")" "$(value mfu <<<"$bf16")"
