#!/bin/bash
# Every layout of layouts.txt trains the same mathematics as one rank: the losses of 20 steps are equal to 1e-5 at fp32
# (1e-2 in reduced precision, for each against its own run on one rank), norms of gradients to 1e-4 (5e-2), skipped
# steps and loss scales exactly. The same plan gives the same bits, run after run.
. "${srcdir:-.}/tests/exec/job.sh" || exit 3

# expand LINE: a line for each of the words in its first braces, and so on
expand() {
    local word
    [[ $1 =~ ^([^{]*)\{([^}]*)\}(.*)$ ]] || { printf '%s\n' "$1"; return; }
    local before=${BASH_REMATCH[1]} after=${BASH_REMATCH[3]}
    for word in ${BASH_REMATCH[2]//,/ }; do expand "$before$word$after"; done
}

layouts() { # one a line, as far as they are wanted
    local line model
    while read -r line; do
        case $line in
        '' | '#'*) continue ;;
        'model '*) model=" --model ${line#model }"; continue ;;
        +*) exhaustive || continue ;;
        esac
        [[ -z $model || $line == *'|'*'|'* ]] || line="$line |"
        expand "${line#+ }$model"
    done <"$srcdir/tests/equivalence/layouts.txt"
}

# reference OPTIONS: the log of the run on one rank that gets these
reference() { local words=$*; echo "one.${words// /}"; }

refer() { # OPTIONS: that run, which has to learn: equal curves that do not fall prove nothing
    learn "$(reference "$@")" 1 --dp 1 --micro-batch 1 "$@" || return
    column loss "$(reference "$@")" |
        awk 'NR == 1 { first = $1 } END { print first, "to", $1; exit !($1 < first - 0.5) }'
}

same() { # KEY A B
    diff <(column "$1" "$2") <(column "$1" "$3")
}

# agree LOSS-LIMIT NORM-LIMIT RANKS OPTIONS -- OPTIONS OF BOTH
agree() {
    local loss=$1 norm=$2 ranks=$3 one key options=()
    shift 3
    while [ "$1" != -- ]; do options+=("$1"); shift; done
    shift
    one=$(reference "$@")
    learn log "$ranks" "${options[@]}" "$@" || return
    for key in lr tokens skipped loss_scale path; do same "$key" log "$one" || return; done
    near loss "$loss" log "$one" && near grad_norm "$norm" log "$one"
}

# Words of a layout are split where spaces are.
compare() { # RANKS | OPTIONS | OPTIONS OF BOTH
    local ranks options base limits="1e-5 1e-4"
    IFS='|' read -r ranks options base <<<"$1"
    [[ $base != *"-precision "* ]] || limits="1e-2 5e-2"
    # shellcheck disable=SC2086
    set -- $base
    [ -e "$(reference "$@")" ] || ok "one rank learns${*:+: $*}" refer "$@"
    # shellcheck disable=SC2086
    ok "trained as on one rank: n=$((ranks))${options% }${*:+ $*}" agree $limits $((ranks)) $options -- "$@"
}

repeats() { # RANKS OPTIONS: two runs write equal logs and equal checkpoints
    local run
    for run in a b; do learn "log.$run" "$@" --save "save.$run" || return; done
    diff <(timeless log.a) <(timeless log.b) &&
        cmp save.a/step-00000020/checkpoint.h5 save.b/step-00000020/checkpoint.h5
    local status=$?
    rm -r save.a save.b
    return $status
}

layout 8 8 4 >unbalanced.json
mapfile -t list < <(layouts)
bases=$(printf '%s\n' "${list[@]}" | cut -d'|' -f3 | tr -s ' ' | sed 's/^ //; s/ $//' | sort -u | wc -l)
plan $((${#list[@]} + bases + 7))
for layout in "${list[@]}"; do compare "$layout"; done

# Whether steps of a run were skipped, but not most of them
skips() { column skipped "$1" | awk '/true/ { n++ } END { print n " steps skipped"; exit !(n > 1 && n < 10) }'; }
ok "fp16 skips steps whose gradients overflow" \
    skips "$(reference --precision fp16 --initial-scale-power 26 --loss-scale-window 4)"

# A single micro-batch's gradients stay in fp16, and overflow sooner than sums in fp32, but no placement of the states
# sooner than another
skip_alike() {
    local one=(--precision fp16 --initial-scale-power 26 --loss-scale-window 4 --dp 2 --micro-batch 8) states key
    learn log.a 2 "${one[@]}" && [ "$(column skipped log.a | grep -c true)" -gt 1 ] || return
    for states in {1,2,3}" none" {0,1,2,3}" optimizer" {0,3}" params"; do
        learn log.b 2 "${one[@]}" --zero "${states% *}" --offload "${states#* }" || return
        for key in skipped loss_scale; do same "$key" log.b log.a || { echo "$states"; return 1; }; done
    done
}
ok "with one micro-batch a step all placements of the states skip the same steps" skip_alike
for ranks in 1 2 4 8; do
    ok "the same plan gives the same bits: n=$ranks" \
        repeats $ranks --dp $ranks --micro-batch 2 --precision "$([ $ranks -eq 4 ] && echo fp32 || echo bf16)"
done

# A layout of all blocks is dense attention, said otherwise; one with fewer is not
all_blocks_are_dense() {
    local model=(--model layers=2,hidden=32,heads=4,vocab=131,seq=48) one=(--dp 1 --micro-batch 4) ways way
    layout 4 3 4 >all.json
    ways=("--attention all.json" "--attention all.json --tp 2" "--attention dense"
        '--sparse-attention {"mode":"dense"}')
    learn log.a 1 "${model[@]}" "${one[@]}" --attention dense-unfused || return
    for way in "${ways[@]}"; do
        # shellcheck disable=SC2086
        learn log.b "$([[ $way == *tp* ]] && echo 2 || echo 1)" "${model[@]}" "${one[@]}" ${way} &&
            near loss 1e-5 log.b log.a && near grad_norm 1e-4 log.b log.a || { echo "$way"; return 1; }
    done
    layout 4 3 0 >few.json
    learn log.b 1 "${model[@]}" "${one[@]}" --attention few.json && ! near loss 5e-5 log.b log.a
}
ok "a layout of all blocks trains as dense-unfused attention" all_blocks_are_dense
