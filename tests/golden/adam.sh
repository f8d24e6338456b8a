#!/bin/bash
# The golden runs of CPU Adam that the repository holds a copy of.
exec tests/golden-adam "${srcdir:-.}"/tests/golden/data/adam/*.json
