#!/usr/bin/python3
"""Bubbles of the pipeline's schedules, measured beside theory: uniform work in place of kernels, real messages.

    tests/speed/bubble.py --build BUILD --data TEXT [--ranks 4 8] [--micro-batches 1 2] [--price US]

Every rank is a stage of four layers, of which each op with products sleeps --price microseconds. With f, b, w the times
of a micro-batch's forward, gradients of inputs and of weights on a stage, p stages, m micro-batches (as multiples of p)
and v chunks a stage, a step takes m (f + b + w) and, idle:

    gpipe, 1f1b   (p - 1) (f + b + w)       interleaved   (p - 1) (f + b + w) / v       zb-h1   (p - 1) (f + b - w)

The bubble is the idle part of the step. Prints one line a schedule; exit status 1 when one is more than 5 % off.
"""
import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

LAYERS = 4  # a stage
CHUNKS = 2
MODEL = "hidden=32,heads=4,vocab=256,seq=32"


def step_seconds(options, ranks, micro_batches, schedule, chunks):
    """The median step of three, after one to warm up."""
    with tempfile.TemporaryDirectory() as folder:
        log = pathlib.Path(folder) / "log"
        subprocess.run(
            ["mpiexec", "-n", str(ranks), options.build / "dsc-run", "--model", f"layers={LAYERS * ranks},{MODEL}",
             "--data", options.data, "--steps", "4", "--micro-batch", "1", "--global-batch", str(micro_batches),
             "--pp", str(ranks), "--schedule", schedule, "--virtual-stages", str(chunks),
             "--fake-compute", str(options.price), "--log", log],
            check=True, stdout=subprocess.DEVNULL)
        return sorted(json.loads(line)["step_s"] for line in log.read_text().splitlines()[1:])[1]


def compare(options, ranks, micro_batches, schedule):
    chunks = CHUNKS if schedule == "interleaved" else 1
    part = 2 * LAYERS * options.price * 1e-6  # f = b = w: attention and MLP of every layer
    busy = 3 * part * micro_batches
    idle = (ranks - 1) * part * {"zb-h1": 1}.get(schedule, 3) / chunks
    step = step_seconds(options, ranks, micro_batches, schedule, chunks)
    measured, theory = (step - busy) / step, idle / (busy + idle)
    print(f"p {ranks}  m {micro_batches:2}  {schedule:11}  step {step:.3f} s  bubble {measured:.4f}, theory {theory:.4f}:"
          f" {100 * (measured / theory - 1):+.1f} %", flush=True)
    return abs(measured / theory - 1) <= 0.05


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=pathlib.Path, required=True)
    parser.add_argument("--data", type=pathlib.Path, required=True)
    parser.add_argument("--ranks", type=int, nargs="+", default=[4, 8])
    parser.add_argument("--micro-batches", type=int, nargs="+", default=[1, 2], help="as multiples of the ranks")
    parser.add_argument("--price", type=int, default=20000, help="microseconds of an op")
    options = parser.parse_args()
    results = [compare(options, ranks, times * ranks, schedule)
               for ranks in options.ranks for times in options.micro_batches
               for schedule in ("gpipe", "1f1b", "interleaved", "zb-h1")]
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
