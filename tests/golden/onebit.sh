#!/bin/bash
# The golden 1-bit exchanges and training runs that the repository holds a copy of.
exec tests/golden-onebit "${srcdir:-.}"/tests/golden/data/onebit/*.json
