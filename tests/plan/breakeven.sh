#!/bin/bash
# dsc-plan --break-even: below the rate that it names compressed steps are foreseen faster, above it exact ones.
. "${srcdir:-.}/tests/tap.sh"

build=$PWD
scratch=$(mktemp -d "${TMPDIR:-/tmp}/dsc-test-XXXXXX")
trap 'rm -rf "$scratch"' EXIT
cd "$scratch" || exit 3

cluster() { # NODES DEVICES BYTES_PER_S: of one NIC a node
    cat >"cluster-$1-$2-$3.json" <<EOF
{"dsc_cluster":1, "node_types":{"n":{"devices":[{"name":"d","count":$2,"memory_bytes":80000000000,
 "bandwidth_bytes_per_s":2e12,"peak_flops":{"fp32":1e13}}],"host_memory_bytes":1000000000000,"cores":64,
 "links":[{"name":"l","between":["device","device"],"topology":"switch","bytes_per_s":3e11,"latency_ns":1000}],
 "nics":[{"count":1,"bytes_per_s":$3,"latency_ns":5000}]}}, "nodes":[{"type":"n","count":$1}],
 "network":[{"tier":"leaf","nodes":$1,"bytes_per_s":$3,"latency_ns":5000}]}
EOF
    echo "cluster-$1-$2-$3.json"
}

plan_of() { "$build/dsc-plan" --model layers=4,hidden=512,heads=8,vocab=1000,seq=64 --optimizer onebit-adam "$@"; }

value() { sed -n "s/^ *\"$1\": *\([-0-9.e+]*\),*\$/\1/p" "$2" | head -1; }

# faster NODES DEVICES BYTES_PER_S: prints which of the two paths is foreseen faster there
faster() {
    plan_of --cluster "$(cluster "$@")" | awk '
        function seconds(t, unit) { return t * (unit == "s" ? 1 : unit == "ms" ? 1e-3 : unit == "us" ? 1e-6 : 1e-9) }
        $1 == "time" { compressed = seconds($2, $3) }
        /by the path gradients\/update/ { exact = seconds($1, $2) }
        END { print (compressed < exact ? "compressed" : "exact") }'
}

# Times are printed to three digits: where links inside nodes are what counts, steps differ by less nearby.
is_between() { # NODES DEVICES FACTOR: below the rate by that factor, and above it
    local rate
    plan_of --cluster "$(cluster "$1" "$2" 1e9)" --break-even --json >even.json || return
    rate=$(value break_even_bytes_per_s even.json)
    echo "break-even at $rate bytes a second"
    [ "$(faster "$1" "$2" "$(awk "BEGIN { print $rate / $3 }")")" = compressed ] &&
        [ "$(faster "$1" "$2" "$(awk "BEGIN { print $rate * $3 }")")" = exact ]
}

times_fewer() { # LOW HIGH
    awk -v t="$(value times_fewer_bytes even.json)" -v low="$1" -v high="$2" \
        'BEGIN { print t " times fewer bytes"; exit !(t > low && t < high) }'
}

refuses() {
    ! "$build/dsc-plan" --model gpt2 --cluster dgx-h100:2 --break-even "$@" 2>message && grep -e "$words" message
}

plan 7
ok "8 nodes of one device" is_between 8 1 1.1
ok "flat, a compressed step sends 32 times less than an exact one" times_fewer 30 32
ok "4 nodes of 4 devices, hierarchically" is_between 4 4 2
ok "so do nodes, which send each bit once" times_fewer 30 32
words="takes --optimizer onebit-adam" ok "what compresses nothing is refused" refuses
words="takes --optimizer onebit-adam" ok "replicas that step by themselves have no such rate" \
    refuses --optimizer zero-one-adam --dp 2
words="goes without --check" ok "it is a question of its own" refuses --optimizer onebit-adam --check
