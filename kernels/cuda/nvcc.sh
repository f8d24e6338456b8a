#!/bin/sh
# Runs nvcc as libtool runs a compiler: what libtool adds for position-independent code, nvcc takes only behind
# --compiler-options.
for argument; do
  shift
  case $argument in
    -fPIC | -DPIC | -fpic) set -- "$@" --compiler-options "$argument" ;;
    *) set -- "$@" "$argument" ;;
  esac
done
exec "$@"
