#!/bin/bash
# What was published of the four techniques, as far as it takes seconds (features.py has the rest).
. "${srcdir:-.}/tests/tap.sh"

part() { python3 "$srcdir/tests/published/features.py" --build . --fast "$1"; }

plan 5
ok "a trillion parameters fit 800 V100 by 3D parallelism and ZeRO 1 alone" part trillion
ok "13 B parameters fit one V100 with ZeRO-Offload, 1.4 B without" part offload
ok "the largest models that were published fit, and twice as large ones do not" part capacity
ok "dense and sparse attention take as long as published, to 25 %" part sparse
ok "Adam and 1-bit Adam are as fast as published, to 25 %" part onebit
