#!/bin/bash
# dsc-plan --emit and dsc-run --plan: what was planned is what runs, or one sentence says why not.
. "${srcdir:-.}/tests/exec/job.sh" || exit 3

even=layers=2,hidden=32,heads=4,vocab=131,seq=32
strategy=(--tp 2 --dp 2 --micro-batch 2 --global-batch 16 --lr 2e-3 --seed 7)

# emits DIR WORDS...: of the even model on this machine
emits() {
    local folder=$1
    shift
    "$build/dsc-plan" --model "$even" --cluster local "$@" --emit "$folder" >/dev/null
}

# runs RANKS DIR WORDS...: three steps of a plan
runs() {
    local ranks=$1 folder=$2
    shift 2
    launch "$ranks" dsc-run --plan "$folder" --data text.txt --steps 3 "$@"
}

# refuses PATTERN RANKS DIR WORDS...: one message, nothing trained, status 2
refuses() {
    local pattern=$1
    shift
    runs "$@" >stdout 2>stderr
    [ $? -eq 2 ] && [ ! -s stdout ] && [ "$(wc -l <stderr)" -eq 1 ] && grep -E "$pattern" stderr && return
    cat stdout stderr
    return 1
}

trains_as_planned() {
    emits plan "${strategy[@]}" && runs 4 plan --log planned >/dev/null &&
        launch 4 dsc-run --model "$even" "${strategy[@]}" --data text.txt --steps 3 --log said >/dev/null &&
        [ "$(wc -l <said)" -eq 3 ] && diff <(timeless planned) <(timeless said)
}

launches() {
    MPIEXEC="${MPIEXEC:-mpiexec}" DSC_RUN=$build/dsc-run timeout 60 plan/launch.sh --data text.txt --steps 3 \
        --log launched </dev/null >/dev/null && diff <(timeless planned) <(timeless launched)
}

takes_options() {
    runs 4 plan --lr 1e-2 --log faster >/dev/null && diff <(column lr faster) <(printf '0.01\n%.0s' 1 2 3) &&
        ! diff <(column loss planned) <(column loss faster) >/dev/null
}

other_programs() {
    local hash
    hash=$(sed -n 's/.*"program_hash": "\(.*\)".*/\1/p' plan/plan.json)
    for words in "--recompute full" "--zero 1" "--global-batch 32" "--precision bf16"; do
        # shellcheck disable=SC2086 # two words
        refuses "the program's hash is [0-9a-f]{32}, the plan's is $hash" 4 plan $words || return
        ! grep -q "program's hash is $hash" stderr || return
    done
}

other_ranks() {
    refuses 'needs tp x pp x cp x dp = 4 ranks, this job has 2' 2 plan && refuses '= 4 ranks, this job has 1' 0 plan
}

# Each file that the plan was read from, changed by a byte, cut, and missing
damaged() {
    local file
    for file in plan.json ds_config.json model.json cluster.json; do
        rm -rf bad && cp -r plan bad && sed -i 's/2/3/' bad/$file &&
            refuses "bad/$file: not as dsc-plan wrote it" 4 bad &&
            cp -r plan/. bad && truncate -s -5 bad/$file && refuses "bad/$file:" 4 bad &&
            rm bad/$file && refuses "bad/$file: cannot" 4 bad || return
    done
    refuses 'nowhere/plan.json' 1 nowhere
}

beside_other_descriptions() {
    refuses 'leave out --model, --cluster and --config' 4 plan --model gpt2 &&
        refuses 'leave out' 4 plan --cluster local && refuses 'leave out' 4 plan --config plan/ds_config.json
}

infeasible() {
    emits small "${strategy[@]}" --device-memory 64KiB 2>stderr
    [ $? -eq 1 ] && [ ! -e small ] && grep 'a rank has 64' stderr && [ -z "$(ls -d ./*.tmp-* 2>/dev/null)" ]
}

# What stands there: refused with status 2 and left as it is, but for an earlier plan, which is replaced
replaces_plans_only() {
    mkdir empty full && echo mine >full/file && echo mine >file || return
    emits empty "${strategy[@]}" && [ -e empty/plan.json ] || return
    emits empty --tp 4 --micro-batch 1 && grep -q '"tp": 4' empty/ds_config.json || return
    touch empty/notes && before=$(cat empty/plan.json)
    emits empty "${strategy[@]}" 2>stderr
    [ $? -eq 2 ] && grep 'holds notes' stderr && [ "$(cat empty/plan.json)" = "$before" ] && [ -e empty/notes ] ||
        return
    emits full "${strategy[@]}" 2>stderr
    [ $? -eq 2 ] && grep "neither empty nor an earlier plan's" stderr && [ "$(cat full/file)" = mine ] || return
    emits file "${strategy[@]}" 2>stderr
    [ $? -eq 2 ] && grep 'no folder' stderr && [ "$(cat file)" = mine ] || return
    emits no/where "${strategy[@]}" 2>stderr
    [ $? -eq 2 ] && [ "$(wc -l <stderr)" -eq 1 ] && [ -z "$(ls -d ./*.tmp-* 2>/dev/null)" ]
}

is_deterministic() {
    emits same "${strategy[@]}" && mv same first && emits same "${strategy[@]}" && diff -r first same
}

# comes_back RANKS WORDS...: the emitted folder makes the same program where it is checked but not run
comes_back() {
    local ranks=$1
    shift
    rm -rf back
    "$build/dsc-plan" "$@" --emit back --json >back.json || { echo "not planned: $*"; return 1; }
    launch "$ranks" dsc-run --plan back --data text.txt --steps 1 --dry-run >/dev/null ||
        { echo "refused: $*"; return 1; }
    grep -qF "$(sed -n 's/.*"program_hash": \(".*"\).*/\1/p' back.json)" back/plan.json
}

models_come_back() {
    echo '{"model_type": "gpt2", "n_layer": 2, "n_embd": 48, "n_head": 4, "n_positions": 32, "vocab_size": 256}' \
        >hf.json
    comes_back 4 --model gpt2 --cluster dgx-a100-80g --dp 4 --precision bf16 &&
        comes_back 2 --model hf.json --cluster local --tp 2 &&
        comes_back 1 --model "$even,ffn=80" --cluster local && grep -q '"ffn":80' back/model.json
}

strategies_come_back() {
    local words
    while read -r words; do
        # shellcheck disable=SC2086 # words
        comes_back 4 --model layers=4,hidden=32,heads=4,vocab=131,seq=32 --cluster local $words || return
    done <<'END'
--pp 2 --tp 2 --sequence-parallel --recompute selective --global-batch 4
--pp 2 --dp 2 --virtual-stages 2 --global-batch 8
--pp 4 --schedule zb-h1 --global-batch 8 --precision fp16 --loss-scale 128
--dp 4 --zero 3 --offload params --prefetch 2 --bucket-size 20000
--dp 4 --zero 1 --offload optimizer --offload-ratio auto --micro-batch 2
--dp 4 --optimizer onebit-adam --freeze-step 4 --precision bf16
--dp 4 --optimizer onebit-lamb --freeze-step auto --max-coeff 5
--dp 4 --optimizer zero-one-adam --local-step-clipper 8
--dp 2 --tp 2 --rank-order dp,tp,pp --scheduler WarmupDecayLR --total-num-steps 9 --weight-decay 0.1
--dp 4 --cluster dgx-h100:3 --stack megatron-2021 --attention dense-unfused --precision fp16
END
}

# Files that --attention names go along: they are not needed any more.
patterns_come_back() {
    layout 4 2 2 >mixed.json
    echo '{"sparse_attention": {"mode": "bigbird", "block": 16, "num_random_blocks": 1,
        "num_sliding_window_blocks": 1}}' >section.json
    emits sparse --dp 2 --attention ./mixed.json,1=section.json || return
    rm -f mixed.json section.json
    runs 2 sparse --log copied >/dev/null && runs 2 ./sparse/ --log again >/dev/null && [ "$(wc -l <copied)" -eq 3 ] &&
        comes_back 2 --model "$even" --cluster local --dp 2 --sparse-attention '{"mode": "fixed", "block": 16}' &&
        refuses 'program.s hash is' 2 sparse --attention dense
}

# What dsc-plan --tokens counts is what a save writes, but for the file's structure.
counts_checkpoints() {
    local words planned written
    for words in "--optimizer adamw" "--optimizer onebit-adam --freeze-step 1" \
        "--optimizer onebit-lamb --freeze-step 1"; do
        # shellcheck disable=SC2086 # words
        planned=$("$build/dsc-plan" --model "$even" --cluster local --dp 2 $words --tokens 1M --json |
            sed -n 's/.*"checkpoint_bytes": \([0-9]*\).*/\1/p') &&
            launch 2 dsc-run --model "$even" --dp 2 $words --data text.txt --steps 0 --save "saved$words" >/dev/null &&
            written=$(stat -c %s "saved$words"/step-*/checkpoint.h5) || return
        echo "$words: $planned planned, $written written"
        [ "$written" -ge "$planned" ] && [ $((written - planned)) -le 100000 ] || return
    done
}

# Slurm's programs, as far as the script uses them: srun hands its program the signals that it gets.
make_slurm() {
    mkdir -p slurm
    printf '#!/bin/bash\nwhile [[ $1 == --* ]]; do shift; done\nexec "$@"\n' >slurm/srun
    printf '#!/bin/bash\necho "$@" >>requeued\n' >slurm/scontrol
    chmod +x slurm/*
}

# submits WORDS...: as Slurm runs a copy of the script
submits() {
    cp one/job.slurm copy.slurm
    env PATH="$PWD/slurm:$PATH" SLURM_JOB_ID=42 SLURM_SUBMIT_DIR="$PWD" DSC_RUN="$build/dsc-run" \
        DSC_TEST_RUN="$scratch" \
        timeout --foreground 60 bash copy.slurm --data text.txt "$@"
}

# The batch shell gets USR1, the run saves and ends with 4, the job is queued again; then it goes on and ends.
is_queued_again() {
    local job
    make_slurm
    emits one --micro-batch 2 && rm -f requeued || return
    submits --steps 1000000 --log log >/dev/null 2>messages &
    job=$!
    reaches 3 log || return
    kill -USR1 "$(started bash | tail -n 1)"
    wait $job
    [ $? -eq 4 ] && grep 'stopped by a signal' messages && [ "$(cat requeued)" = "requeue 42" ] || return
    submits --steps $(($(wc -l <log) + 2)) --log log >/dev/null 2>messages && grep 'resuming from' messages &&
        [ "$(wc -l <requeued)" -eq 1 ]
}

is_not_queued_again() {
    submits --steps 3 --save text.txt/x >/dev/null 2>&1
    [ $? -eq 2 ] && [ "$(wc -l <requeued)" -eq 1 ]
}

# Directives are those of the plan: nodes, tasks, GPUs, cores; seconds for a step and a save before the limit.
asks_for_its_nodes() {
    rm -rf big
    "$build/dsc-plan" --model gpt3-175b --cluster dgx-h100:40 --tp 8 --pp 4 --dp 8 --micro-batch 1 --global-batch 256 \
        --precision bf16 --zero 1 --recompute full --tokens 300B --json --emit big >big.json &&
        /usr/bin/python3 - <<'END'
import json, math, re
plan, job = json.load(open("big.json")), open("big/job.slurm").read()
told = dict(re.findall(r"^#SBATCH --([a-z-]+)=(\S+)", job, re.M))
wanted = {"nodes": "32", "ntasks": "256", "ntasks-per-node": "8", "gpus-per-node": "8", "cpus-per-task": "14"}
assert {k: told[k] for k in wanted} == wanted, told
needed = plan["time"]["step_s"] + plan["run"]["checkpoint_s"] + 60
assert told["signal"] == f"B:USR1@{max(120, math.ceil(needed))}" and needed > 120, (told, needed)
assert re.search(r"^#SBATCH --requeue$", job, re.M)
run = plan["run"]
assert f"--steps {run['steps']} --save-every {run['checkpoint_interval_steps']} \"$@\"" in job, job
assert f"-n 256 " in open("big/launch.sh").read()
END
}

# The cluster of FIRST nodes of 8 devices and 128 cores, and two of another kind: DEVICES and 64 cores
mix() { # FIRST DEVICES
    "$build/dsc-plan" --cluster dgx-a100-80g:4 --explain >alike.json && /usr/bin/python3 - "$@" <<'END'
import copy, json, sys
cluster = json.load(open("alike.json"))
(name, node), = cluster["node_types"].items()
other = copy.deepcopy(node)
other["devices"][0]["count"] = int(sys.argv[2])
other["cores"] = 64
cluster["node_types"]["x\nrm -rf /"] = other
cluster["nodes"] = [{"type": name, "count": int(sys.argv[1])}, {"type": "x\nrm -rf /", "count": 2}]
json.dump(cluster, open("mixed.json", "w"))
END
}

# asks DP NODES TASKS GPUS CORES: what the script has for so many replicas on mixed.json
asks() {
    rm -rf mixed
    "$build/dsc-plan" --model gpt2 --cluster mixed.json --dp "$1" --emit mixed >/dev/null || return
    sed -n 's/^#SBATCH --\(nodes\|ntasks\|ntasks-per-node\|gpus-per-node\|cpus-per-task\)=//p' mixed/job.slurm |
        tr '\n' ' ' | tee asked && [ "$(cat asked)" = "$2 $1 $3 $4 $5 " ]
}

mixes_nodes() {
    mix 2 4 && asks 16 2 8 8 16 && asks 12 2 8 8 16 && asks 4 1 4 4 32 || return
    "$build/dsc-plan" --model gpt2 --cluster mixed.json --dp 20 --emit none >/dev/null 2>stderr
    [ $? -eq 2 ] && [ ! -e none ] && grep 'devices (dgx-a100-80g) and of 4 .* at most 16 ranks' stderr || return
    mix 1 8 && asks 8 1 8 8 16 && asks 16 2 8 8 8 && grep '1 of dgx-a100-80g, 1 of x?rm -rf /$' mixed/job.slurm
}

is_clean() { shellcheck mixed/job.slurm mixed/launch.sh big/job.slurm big/launch.sh; }

plan 18
ok "an emitted plan trains as its options would" trains_as_planned
ok "launch.sh trains the same" launches
ok "options that leave the program alone are taken" takes_options
ok "options that change the program are refused, with both hashes" other_programs
ok "another number of ranks is refused, with both numbers" other_ranks
ok "a file of the plan that is changed, cut or missing is refused by name" damaged
ok "--model, --cluster and --config are refused beside a plan" beside_other_descriptions
ok "what does not fit ends with status 1 and writes nothing" infeasible
ok "an earlier plan is replaced; what else stands there is left as it is" replaces_plans_only
ok "the same plan is the same bytes" is_deterministic
ok "presets, Hugging Face's files and inline models come back" models_come_back
ok "strategies come back" strategies_come_back
ok "files of sparse patterns go along" patterns_come_back
ok "the checkpoint that is planned is the one that is written" counts_checkpoints
ok "Slurm's script saves at the signal, is queued again and goes on; on another status it is not" \
    eval 'is_queued_again && is_not_queued_again'
ok "Slurm's script asks for the plan's nodes, tasks and time to save" asks_for_its_nodes
ok "of nodes of two kinds it asks for those that have ranks, and what each of them has" mixes_nodes
if command -v shellcheck >/dev/null; then ok "shellcheck has nothing to say about the scripts" is_clean
else skip "shellcheck has nothing to say about the scripts" "shellcheck is not there"; fi
