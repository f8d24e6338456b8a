#!/bin/bash
# The layers: a file includes only what has a smaller number, or its own module. The contracts of kernels stand half a
# step lower than what else describes the world, as peak rates are told by dsc_dtype and calibrations by dsc_shape.
. "${srcdir:-.}/tests/tap.sh"

declare -A layer=(
    [base]=0
    [kernel]=5
    [cluster]=10 [trace]=10 [device]=10
    [model]=20 [config]=20 [data]=20 [comm]=20
    [plan]=30 [kernels]=30
    [program]=40 [store]=40
    [exec]=50 [sim]=50
    [sim/search]=60
    [tools]=70
)

# Prints FILE:LINE:HEADER for each include in the tree at $1.
includes() {
    (cd "$1" && grep -rnE '^[[:space:]]*#[[:space:]]*include' --include='*.[chu]' --include='*.cu' --include='*.cuh' \
        lib kernels sim tools 2>/dev/null) |
        sed -nE 's/^([^:]+:[0-9]+):[^<"]*[<"]([^>"]+)[>"].*/\1:\2/p'
}

# lib/plan/cut.c -> plan, sim/search/score.c -> sim/search, sim/engine.c -> sim; nothing for the umbrella, lib/dsc.h
module_of_file() {
    case $1 in
    lib/*/*) local rest=${1#lib/}; echo "${rest%%/*}" ;;
    lib/*) ;;
    sim/search/*) echo sim/search ;;
    *) echo "${1%%/*}" ;;
    esac
}

# "plan/plan.h" -> plan; nothing for a header of the same folder or of the system
module_of_header() {
    case $1 in
    sim/search/*) echo sim/search ;;
    */*) [ -n "${layer[${1%%/*}]}" ] && echo "${1%%/*}" ;;
    esac
}

upward_includes() {
    local file line header from to
    while IFS=: read -r file line header; do
        from=$(module_of_file "$file") to=$(module_of_header "$header")
        [ -z "$from" ] && continue
        if [ -z "${layer[$from]}" ]; then
            echo "$file:$line: no layer is known for $from"
        elif [ "$header" = dsc.h ] && [ "$from" != tools ]; then
            echo "$file:$line: $from includes the umbrella"
        elif [ -n "$to" ] && [ "$to" != "$from" ] && [ "${layer[$to]}" -ge "${layer[$from]}" ]; then
            echo "$file:$line: $from (${layer[$from]}) includes $header (${layer[$to]})"
        fi
    done < <(includes "$1")
}

# Includes in the tree at $1 of headers that match $2, outside the folders that match $3.
includes_outside() {
    includes "$1" | awk -F: -v header="^($2)\$" -v folder="^($3)/" '$3 ~ header && $1 !~ folder'
}

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
mkdir -p "$scratch"/lib/plan "$scratch"/sim
echo '#include "sim/sim.h"' >"$scratch/lib/plan/up.c"
echo '# include <mpi.h>' >"$scratch/sim/call.c"

foreign_symbols() {
    nm -A --undefined-only "$1" 2>/dev/null | grep -E ' U (P?MPI_|H5|cuda|cu[A-Z]|nccl)'
}

plan_library=.libs/libdsc-plan.a

# Lines of code that a screen does not show
wide_lines() {
    (cd "$1" && find lib kernels sim tools tests -name '*.[ch]' -o -name '*.cu' -o -name '*.cuh' -o -name '*.sh' \
        -o -name '*.inc' |
        LC_ALL=C.UTF-8 xargs grep -nE '.{121,}' /dev/null)
}

plan 7
ok "an include of a higher layer, or of mpi.h, is found where there is one" \
    test -n "$(upward_includes "$scratch")" -a -n "$(includes_outside "$scratch" mpi.h lib/comm)"
empty "a layer includes only lower layers, so that sim and exec never see each other" "$(upward_includes "$srcdir")"
empty "only comm includes mpi.h and nccl.h" "$(includes_outside "$srcdir" 'mpi\.h|nccl\.h' lib/comm)"
empty "only store includes hdf5.h" "$(includes_outside "$srcdir" 'hdf5\.h|H5.*\.h' lib/store)"
empty "only device and kernels/cuda include CUDA" \
    "$(includes_outside "$srcdir" 'cu(da|blas|dnn)[a-zA-Z_]*\.h' 'lib/device|kernels/cuda')"
if [ -e "$plan_library" ]; then
    empty "libdsc-plan has no symbol of MPI, HDF5, NCCL or CUDA" "$(foreign_symbols "$plan_library")"
else
    skip "libdsc-plan has no symbol of MPI, HDF5, NCCL or CUDA" "$plan_library is not built"
fi
empty "no line of code is longer than 120 characters" "$(wide_lines "$srcdir")"
