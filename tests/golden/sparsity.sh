#!/bin/bash
# The golden layouts of sparse attention that the repository holds a copy of.
exec tests/golden-sparsity "${srcdir:-.}"/tests/golden/data/sparsity/*.json
