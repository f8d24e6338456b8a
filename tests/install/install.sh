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
    int64_t bytes = 0;
    dsc_status status = dsc_parse_bytes("argument", "1.5GiB", &bytes);

    puts(status == DSC_OK ? dsc_bytes_str(bytes).str : dsc_message());
    return dsc_exit_status(status);
}
END
    ${CC:-cc} $ASAN_FLAGS $(flags --cflags) -o "$root/program" "$root/program.c" $(flags --libs)
}

tools_that_do_not_answer() {
    local tool option
    for tool in "$prefix"/bin/*; do
        for option in --help --version; do
            [ ! -e "$tool" ] || [ -n "$("$tool" $option)" ] || echo "$tool $option"
        done
    done 2>&1
}

plan 5
ok "make install puts everything below its prefix" make install DESTDIR="$root"
empty "every installed header compiles by itself" "$(headers_that_do_not_compile)"
ok "a program builds with what dsc.pc says" build_program
ok "that program runs" test "$(LD_LIBRARY_PATH=$prefix/lib "$root/program")" = "1.50 GiB"
empty "every installed tool answers --help and --version" "$(tools_that_do_not_answer)"
