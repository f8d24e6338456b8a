#!/bin/bash
# The golden token files that the repository holds a copy of.
exec tests/golden-data "${srcdir:-.}"/tests/golden/data/data/*.json
