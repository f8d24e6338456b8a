# TAP for tests written in bash: a plan, then one line for each claim. They run in the root of the build folder; srcdir
# is the root of the sources.
srcdir=${srcdir:-.}
tap_number=0

plan() { echo "1..$1"; }

# report STATUS CLAIM: 0 holds
report() {
    tap_number=$((tap_number + 1))
    if [ "$1" -eq 0 ]; then echo "ok $tap_number - $2"; else echo "not ok $tap_number - $2"; fi
}

# ok CLAIM COMMAND...: holds when the command succeeds; what it printed is shown when it does not
ok() {
    local claim=$1 output status
    shift
    output=$("$@" 2>&1)
    status=$?
    [ $status -eq 0 ] || printf '%s\n' "\$ $*" "$output" "status $status" | sed 's/^/# /'
    report $status "$claim"
}

# empty CLAIM TEXT: holds when there is no text, which lists what speaks against the claim
empty() {
    [ -z "$2" ] || printf '%s\n' "$2" | sed 's/^/# /'
    [ -z "$2" ]
    report $? "$1"
}

# skip CLAIM REASON
skip() {
    tap_number=$((tap_number + 1))
    echo "ok $tap_number - $1 # SKIP $2"
}
