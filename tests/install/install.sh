#!/bin/bash
# Installs below a temporary folder, and uses what lies there as a stranger would: by pkg-config alone.
. "${srcdir:-.}/tests/tap.sh"

root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
prefix=$root$(sed -n 's/^prefix=//p' dsc.pc)
unset MAKEFLAGS MFLAGS # the outer make's job server is not ours to take from

flags() {
    PKG_CONFIG_PATH=$prefix/lib/pkgconfig:$PKG_CONFIG_PATH \
        "${PKG_CONFIG:-pkg-config}" --define-variable=prefix="$prefix" "$@" dsc
}

headers_that_do_not_compile() {
    local header
    (cd "$prefix/include/dsc" && find . -name '*.h') | while read -r header; do
        echo "#include <$header>" | ${CC:-cc} -std=gnu11 -Wall -Werror -fsyntax-only $(flags --cflags) -x c - ||
            echo "$header"
    done 2>&1
}

build_program() {
    cat >"$root/program.c" <<'END'
#include <dsc.h>
#include <stdio.h>

int main(void)
{
    dsc_model model;
    dsc_status status = dsc_model_load("gpt2", &model);

    if (status == DSC_OK) printf("%lld\n", (long long)dsc_model_parameters(&model));
    else fprintf(stderr, "%s\n", dsc_message());
    return dsc_exit_status(status);
}
END
    ${CC:-cc} $ASAN_FLAGS $(flags --cflags) -o "$root/program" "$root/program.c" $(flags --libs)
}

# The function that doc/sparse.md shows: one block of ones, times itself transposed.
build_example() {
    sed -n '/^    #include/,/^    }/s/^    //p' "$srcdir/doc/sparse.md" >"$root/example.c"
    cat >>"$root/example.c" <<'END'
#include <stdio.h>

int main(void)
{
    float ones[16 * 8], scores[16 * 16];
    dsc_layout *layout = NULL;
    dsc_status status = dsc_layout_make(16, 1, 1, &layout);

    for (int i = 0; i < 16 * 8; i++) ones[i] = 1;
    if (status == DSC_OK) dsc_layout_add(layout, 0, 0, 0);
    if (status == DSC_OK) status = multiply(layout, 8, ones, ones, scores);
    printf("%g\n", status == DSC_OK ? (double)scores[255] : -1);
    dsc_layout_destroy(layout);
    return dsc_exit_status(status);
}
END
    ${CC:-cc} $ASAN_FLAGS $(flags --cflags) -o "$root/example" "$root/example.c" $(flags --libs)
}

tools_that_do_not_answer() {
    local tool option
    for tool in "$prefix"/bin/*; do
        for option in --help --version; do
            [ ! -e "$tool" ] || [ -n "$("$tool" $option)" ] || echo "$tool $option"
        done
    done 2>&1
}

plan 7
ok "make install puts everything below its prefix" make install DESTDIR="$root"
empty "every installed header compiles by itself" "$(headers_that_do_not_compile)"
ok "a program builds with what dsc.pc says" build_program
ok "that program counts GPT-2's parameters" test "$(LD_LIBRARY_PATH=$prefix/lib "$root/program")" = 124439808
ok "so does the example of doc/sparse.md" build_example
ok "the example multiplies a block" test "$(LD_LIBRARY_PATH=$prefix/lib "$root/example")" = 8
empty "every installed tool answers --help and --version" "$(tools_that_do_not_answer)"
