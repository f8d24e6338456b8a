# What tests of whole runs share: a scratch folder with text to learn, the tools on ranks, values of their logs.
. "${srcdir:-.}/tests/tap.sh"

# absolute, since what runs below runs in the scratch folder
build=$PWD
srcdir=$(cd "$srcdir" && pwd)
[ -x "$build/dsc-run" ] || { echo "1..0 # SKIP built without MPI"; exit 0; }
scratch=$(mktemp -d "${TMPDIR:-/tmp}/dsc-test-XXXXXX")
trap 'rm -rf "$scratch"' EXIT
cd "$scratch" || exit 3
export OMP_NUM_THREADS=1

# Odd sizes, so that vectors have tails: characters of ASCII are its vocabulary.
tiny=layers=2,hidden=40,heads=5,vocab=131,seq=24

# text LETTERS: pseudo-text, the same on every machine: words of syllables, common ones far more often
text() {
    awk -v letters="$1" '
        function draw(n) { state = (state * 16807) % 2147483647; return int(state / 2147483647 * n) }
        function pick(from) { return substr(from, draw(length(from)) + 1, 1) }
        BEGIN {
            state = 1
            for (w = 0; w < 300; w++)
                for (s = draw(4); s >= 0; s--) words[w] = words[w] pick("bcdfglmnprst") pick("aeiou")
            for (; length(line) < letters; n++) {
                x = draw(1000) / 1000
                line = line words[int(300 * x * x * x)] (n % 9 == 8 ? ".\n" : " ")
            }
            printf "%s", substr(line, 1, letters)
        }'
}
text 20000 >text.txt

# layout HEADS BLOCKS WHOLE: a file whose first heads see all blocks, the others their own and the first
layout() {
    awk -v heads="$1" -v blocks="$2" -v whole="$3" 'BEGIN {
        printf "{\"block\": 16, \"layout\": ["
        for (h = 0; h < heads; h++)
            for (r = 0; r < blocks; r++) {
                row = ""
                for (c = 0; c < blocks; c++) row = row (c > 0 ? ", " : "") (h < whole || c == r || c == 0)
                printf("%s[%s]%s", r > 0 ? ", " : h > 0 ? ", [" : "[", row, r == blocks - 1 ? "]" : "")
            }
        print "]}"
    }'
}

# launch RANKS TOOL WORDS...: on that many ranks; 0 is without mpiexec. All that it starts bears a mark, and ends after
# `limit` seconds.
launch() {
    local ranks=$1 tool=$2 starter=()
    shift 2
    [ "$ranks" -eq 0 ] || starter=("${MPIEXEC:-mpiexec}" -n "$ranks")
    env DSC_TEST_RUN="$scratch" timeout "${limit:-300}" "${starter[@]}" "$build/$tool" "$@" </dev/null
}

# started [NAME]: ids of the processes that bear it, of those whose programs' names begin so
started() {
    local environ name
    for environ in $(grep -lzsx "DSC_TEST_RUN=$scratch" /proc/[0-9]*/environ); do
        read -r -d '' name 2>/dev/null <"${environ%environ}cmdline"
        [[ ${name##*/} == "$1"* ]] && basename "${environ%/environ}"
    done
}

# What is still there, a second after a run has ended
left_behind() {
    local tries
    for tries in {1..20}; do
        [ -n "$(started)" ] || return 0
        sleep 0.05
    done
    echo "left behind: $(started)"
}

# train RANKS WORDS...: dsc-run of the tiny model, which words may override
train() {
    local ranks=$1
    shift
    launch "$ranks" dsc-run --model "$tiny" --data text.txt --device cpu --global-batch 16 "$@"
}

# learn LOG RANKS OPTIONS: 20 steps; the log is complete
learn() {
    local log=$1 ranks=$2
    shift 2
    train "$ranks" --steps 20 --log "$log" "$@" >/dev/null && [ "$(wc -l <"$log")" -eq 20 ]
}

# reaches STEP LOG: waits until the run that was started last has logged so many
reaches() {
    until [ "$(cat "$2" 2>/dev/null | wc -l)" -ge "$1" ]; do
        kill -0 $! 2>/dev/null || return
        sleep 0.02
    done
}

# column KEY LOG: the values of a key, one line a step; what a log says but for the time that it took
column() { sed -n "s/.*\"$1\":\(\[[^]]*\]\|[^,}]*\).*/\1/p" "$2"; }
timeless() { sed 's/"step_s":[^,]*,//' "$1"; }

# near KEY LIMIT A B: all values of 20 steps agree to the limit, as a share; B is one rank's log
near() {
    paste <(column "$1" "$3") <(column "$1" "$4") | awk -v key="$1" -v limit="$2" '
        function size(x) { return x < 0 ? -x : x }
        $1 != $2 && !(size($1 - $2) <= limit * size($2)) {
            bad = 1
            print key " of step " NR ": " $1 ", one rank has " $2
        }
        END { exit bad || NR != 20 }'
}

exhaustive() { [ "${DSC_EXHAUSTIVE:-0}" != 0 ]; }
