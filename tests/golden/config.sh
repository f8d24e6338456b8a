#!/bin/bash
# The golden batch triples that the repository holds a copy of.
exec tests/golden-config "${srcdir:-.}"/tests/golden/data/config/*.json
