#!/bin/bash
# dsc-plan --tokens: days, failures, checkpoints and energy of a run, against numbers computed here from the same step.
. "${srcdir:-.}/tests/tap.sh"

build=$PWD
scratch=$(mktemp -d "${TMPDIR:-/tmp}/dsc-test-XXXXXX")
trap 'rm -rf "$scratch"' EXIT
cd "$scratch" || exit 3

# Four nodes of two GPUs each with all that a run asks for, and a fifth of another kind
cat >cluster.json <<'END'
{"dsc_cluster": 1, "name": "small", "storage": {"write_bytes_per_s": 1e9, "read_bytes_per_s": 2e9},
 "node_types": {
   "good": {"devices": [{"name": "g", "count": 2, "memory_bytes": 8e10, "bandwidth_bytes_per_s": 1e12,
                         "peak_flops": {"bf16": 3e14, "fp32": 2e13}, "power_w": 400}],
            "links": [{"name": "l", "between": ["device", "device"], "topology": "switch", "bytes_per_s": 1e11,
                       "latency_ns": 2000}],
            "nics": [{"count": 2, "bytes_per_s": 25e9, "latency_ns": 5000}],
            "host_memory_bytes": 1e12, "cores": 64, "power_w": 1500, "mtbf_h": 1000},
   "poor": {"devices": [{"name": "g", "count": 2, "memory_bytes": 8e10, "bandwidth_bytes_per_s": 1e12,
                         "peak_flops": {"bf16": 3e14, "fp32": 2e13}, "power_w": 500}],
            "links": [{"name": "l", "between": ["device", "device"], "topology": "switch", "bytes_per_s": 1e11,
                       "latency_ns": 2000}],
            "nics": [{"count": 2, "bytes_per_s": 25e9, "latency_ns": 5000}],
            "host_memory_bytes": 1e12, "cores": 64, "mtbf_h": 500}},
 "nodes": [{"type": "good", "count": 4}, {"type": "poor", "count": 1}],
 "network": [{"tier": "t", "nodes": 5, "bytes_per_s": 25e9, "latency_ns": 1000}]}
END

plans() { "$build/dsc-plan" --model gpt2 --precision bf16 --json "$@" >result 2>notes; }
holds() {
    /usr/bin/python3 -c "
import json, math
from math import exp, sqrt
d = json.load(open('result')); r = d['run']
near = lambda x, y, share=1e-9: abs(x - y) <= share * abs(y)
assert (
$1), r"
}

has_formulas() {
    plans --cluster cluster.json --dp 8 --micro-batch 4 --tokens 300B --restart-time 120 --energy-price 0.1 || return
    holds 'r["tokens"] == 3 * 10 ** 11 and r["steps"] == math.ceil(3e11 / (32 * 1024)) and
        near(r["step_s"], d["time"]["step_s"])' &&
        holds 'r["nodes"] == 4 and near(r["mtbf_h"], 250) and near(r["failures_per_day"], 24 / 250) and
        near(r["node_mtbf_h"], 1000)' &&
        holds 'near(r["checkpoint_bytes"], 3 * 4 * 124439808) and
        near(r["checkpoint_s"], r["checkpoint_bytes"] / 1e9) and
        near(r["restart_s"], 120 + r["checkpoint_bytes"] / 2e9)' &&
        holds 'near(r["young_interval_s"], sqrt(2 * r["checkpoint_s"] * 250 * 3600))' &&
        holds '[x := r["checkpoint_s"] / (2 * 250 * 3600), near(r["daly_interval_s"],
            r["young_interval_s"] * (1 + sqrt(x) / 3 + x / 9) - r["checkpoint_s"])][-1]' &&
        holds 'abs(r["checkpoint_interval_steps"] - r["daly_interval_s"] / r["step_s"]) <= 1 and
        near(r["checkpoint_interval_s"], r["checkpoint_interval_steps"] * r["step_s"])' &&
        holds '[m := 250 * 3600, t := r["checkpoint_interval_s"], near(r["goodput"],
            t / (m * exp(r["restart_s"] / m) * (exp((t + r["checkpoint_s"]) / m) - 1)), 1e-6)][-1]' &&
        holds 'near(r["days_of_steps"], r["steps"] * r["step_s"] / 86400) and
        near(r["days"], r["days_of_steps"] / r["goodput"])' &&
        holds 'near(r["power_kw"], 4 * 1.5) and r["power_of"] == "nodes" and
        near(r["energy_mwh"], 6e-3 * 24 * r["days"]) and near(r["energy_cost"], 100 * r["energy_mwh"])'
}

# The fifth fails twice as often; nobody says what it draws, but what its devices do.
counts_used_nodes() {
    plans --cluster cluster.json --dp 3 --micro-batch 4 --tokens 1B &&
        holds 'r["nodes"] == 2 and near(r["mtbf_h"], 500) and near(r["power_kw"], 3)' &&
        plans --cluster cluster.json --dp 10 --tokens 1B &&
        holds 'r["nodes"] == 5 and near(1 / r["mtbf_h"], 4 / 1000 + 1 / 500) and near(r["power_kw"], 4 * 1.5 + 1) and
        r["power_of"] == "devices" and r["energy_cost"] is None'
}

takes_options() {
    plans --cluster cluster.json --dp 8 --tokens 1B --mtbf 10 --checkpoint-rate 100MB &&
        holds 'near(r["mtbf_h"], 2.5) and near(r["checkpoint_s"], r["checkpoint_bytes"] / 1e8) and
        near(r["restart_s"], 600 + r["checkpoint_s"])'
}

# Llama 3: 419 failures in 54 days of 2048 nodes, with more than 90 % of the time spent on steps.
has_first_values() {
    "$build/dsc-plan" --model layers=126,hidden=16384,heads=128,vocab=128256,seq=8192 --cluster dgx-h100:2048 --tp 8 \
        --pp 16 --dp 128 --zero 1 --global-batch 2048 --precision bf16 --sequence-parallel --recompute full \
        --tokens 15.6T --json >result && holds 'near(r["failures_per_day"], 419 / 54, 1e-6) and
        0.90 < r["goodput"] < 0.96 and near(r["power_kw"], 2048 * 10.2)' &&
        plans --cluster hgx-h100:4 --tokens 1B && holds 'r["nodes"] == 4 and near(r["power_kw"], 4 * 8 * 0.7) and
        r["power_of"] == "devices" and near(r["checkpoint_bytes_per_s"], 4 * 273e9 / 384)' &&
        plans --cluster local --tokens 1B && holds 'r["power_kw"] is None and r["energy_mwh"] is None'
}

# Exact steps up to the freezing, compressed ones after: over a slow network they differ.
counts_warmup() {
    plans --cluster dgx-a100-80g:4 --optimizer onebit-adam --freeze-step 100 --tokens 32768000 --micro-batch 1 || return
    holds 'r["steps"] == 1000 and [p := {x["name"]: x["step_s"] for x in d["paths"]}, e := p["gradients/update"],
        e != d["time"]["step_s"] and near(r["step_s"], 0.1 * e + 0.9 * d["time"]["step_s"])][-1]'
}

never_ends() {
    plans --cluster cluster.json --dp 8 --tokens 1B --mtbf 0.001 && holds 'r["goodput"] < 1e-6' &&
        plans --cluster cluster.json --dp 8 --tokens 1B --mtbf 0.001 --restart-time 1e6 &&
        holds 'r["goodput"] == 0 and r["days"] is None' &&
        "$build/dsc-plan" --model gpt2 --cluster cluster.json --dp 8 --tokens 1B --mtbf 0.001 --restart-time 1e6 |
        grep 'no end with failures'
}

shows_lines() {
    "$build/dsc-plan" --model gpt2 --cluster cluster.json --dp 8 --tokens 300B --energy-price 0.1 >lines || return
    for line in '^run  .*300 G tokens, .* with failures .goodput 9' \
        '^failures   0.096 a day, one every 10.4 days: 4 nodes' \
        '^checkpoint 1\.39 GiB in .*Young.*Daly' '^energy     6 kW at most, .*Wh, .* at 0.1 a kWh'; do
        grep -E "$line" lines || { cat lines; return 1; }
    done
    "$build/dsc-plan" --model gpt2 --cluster cluster.json --dp 8 --json >result && ! grep '"run"' result &&
        "$build/dsc-plan" --model gpt2 --cluster cluster.json --dp 8 | grep -E '^(run|failures|checkpoint|energy)'
    [ "${PIPESTATUS[1]}" -eq 1 ]
}

# Two drives of 3 GB/s to and 6 GB/s from, with room for so many bytes: goodput goes by their rate, not by storage's.
drives() { # BYTES OPTION...
    local nvme='"count": 2, "read_bytes_per_s": 6e9, "write_bytes_per_s": 3e9'
    sed "s/\"mtbf_h\": 1000/&, \"nvme\": {\"bytes\": $1, $nvme}/" cluster.json >drives.json
    shift
    plans --cluster drives.json --tokens 1B --restart-time 120 --checkpoint-rate nvme "$@"
}

uses_drives() {
    drives 1e12 --dp 2 && holds 'r["nodes"] == 1 and near(r["checkpoint_bytes_per_s"], 6e9) and
        near(r["checkpoint_s"], r["checkpoint_bytes"] / 6e9) and
        near(r["restart_s"], 120 + r["checkpoint_bytes"] / 12e9)' || return
    drives 1e8 --dp 2
    [ $? -eq 1 ] && grep 'a checkpoint has 1.39 GiB, the node.s 2 drives 191 MiB' notes || return
    drives 1e12 --dp 4
    [ $? -eq 2 ] && grep 'ranks are on 2 nodes' notes && refuses 'good has no nvme' --cluster cluster.json --dp 2 \
        --tokens 1B --checkpoint-rate nvme
}

# refuses PATTERN OPTION...: one line, status 2
refuses() {
    local pattern=$1
    shift
    "$build/dsc-plan" --model gpt2 --cluster cluster.json --dp 8 "$@" >stdout 2>stderr
    [ $? -eq 2 ] && [ ! -s stdout ] && [ "$(wc -l <stderr)" -eq 1 ] && grep -E -- "$pattern" stderr && return
    cat stdout stderr
    return 1
}

refuses_bad_input() {
    refuses '--tokens: expected .* "many"' --tokens many && refuses '--tokens: -3B is outside' --tokens -3B &&
        refuses '--tokens: 0 is outside 1' --tokens 0 && refuses '--tokens: 9e30 is outside' --tokens 9e30 &&
        refuses '--tokens 8191: a step has global batch 8 x 1024 = 8192 tokens' --tokens 8191 &&
        refuses '--mtbf: 0 is outside' --tokens 1B --mtbf 0 && refuses '--mtbf: -1 is outside' --tokens 1B --mtbf -1 &&
        refuses '--mtbf.*nan' --tokens 1B --mtbf nan && refuses '--restart-time: -5' --tokens 1B --restart-time -5 &&
        refuses '--checkpoint-rate.*0' --tokens 1B --checkpoint-rate 0 &&
        refuses '--energy-price: -1' --tokens 1B --energy-price -1 &&
        refuses '--mtbf.* are for --tokens' --mtbf 100 && refuses 'are for --tokens' --restart-time 0 &&
        refuses 'is for --tokens' --checkpoint-rate 1GB && refuses 'what-if goes without --tokens' --tokens 1B --what-if
}

plan 9
ok "days, failures, checkpoints and energy are what formulas make of the step" has_formulas
ok "nodes that hold no rank neither fail nor draw power; kinds of nodes add up" counts_used_nodes
ok "options go before the description" takes_options
ok "what nobody describes is as Llama 3 had it" has_first_values
ok "a warm-up of compression counts as exact steps" counts_warmup
ok "a run that never ends says so" never_ends
ok "checkpoints go to a node's drives where that is asked for and can be" uses_drives
ok "people get four lines, and none where they did not ask" shows_lines
ok "bad input is refused in one line" refuses_bad_input
