# What the fuzzing tests share, after tests/tap.sh. They define seed_corpus, which fills $root/corpus.
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT

compile() { # OUTPUT INPUT...
    clang -g -O1 -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=undefined -D_GNU_SOURCE -I"$srcdir" \
        -I"$srcdir/lib" -o "$root/$1" "${@:2}"
}

# Whether clang is there with its fuzzer. What then does not build is wrong.
can_fuzz() {
    echo 'int LLVMFuzzerTestOneInput(const char *bytes, unsigned long n) { return bytes != 0 || n ? 0 : 0; }' |
        compile probe -x c - >/dev/null 2>&1
}

# build_and_fuzz TARGET MOST_BYTES SOURCE_OR_FLAG...: tests/fuzz/TARGET.c with these, for FUZZ_SECONDS (10)
build_and_fuzz() {
    mkdir "$root/corpus" && seed_corpus && compile target "$srcdir/tests/fuzz/$1.c" "${@:3}" &&
        "$root/target" -max_total_time="${FUZZ_SECONDS:-10}" -max_len="$2" -verbosity=0 -print_final_stats=1 \
            -artifact_prefix="$root/" "$root/corpus"
}

# fuzz CLAIM TARGET MOST_BYTES SOURCE_OR_FLAG...
fuzz() {
    plan 1
    if can_fuzz; then ok "$1" build_and_fuzz "${@:2}"; else skip "$1" "clang or its fuzzer is not there"; fi
}
