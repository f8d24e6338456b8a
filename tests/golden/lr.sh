#!/bin/bash
# The golden learning rates and loss scales that the repository holds a copy of.
exec tests/golden-lr "${srcdir:-.}"/tests/golden/data/lr/*.json
