#!/bin/bash
# The golden pipelines that the repository holds a copy of.
exec tests/golden-pipeline "${srcdir:-.}"/tests/golden/data/pipeline/*.json
