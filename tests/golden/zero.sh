#!/bin/bash
# The golden partitions of ZeRO that the repository holds a copy of.
exec tests/golden-zero "${srcdir:-.}"/tests/golden/data/zero/*.json
