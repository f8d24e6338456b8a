#!/usr/bin/env python3
"""The largest model that one rank trains, with states and weights on the device, or in host memory.

    size.py --build BUILD --data TEXT [--device-memory 512MiB] [--host-memory 16GiB] [--prove none,optimizer,params]

Of a family in which only the number of layers varies (hidden 256, 8 heads, 256 tokens, 128 positions, bf16, micro-batch 1,
full recompute) it finds by halves the largest that dsc-plan calls feasible, and for those to prove lets dsc-run train it
for three steps, and compares the arenas that were used with those that were predicted.
"""
import argparse
import json
import os
import subprocess
import tempfile


def words(args, layers, offload):
    return ["--model", f"layers={layers},hidden=256,heads=8,vocab=256,seq=128", "--precision", "bf16", "--micro-batch", "1",
            "--global-batch", "1", "--recompute", "full", "--offload", offload, "--device-memory", args.device_memory,
            "--host-memory", args.host_memory]


def count(layers):
    """Parameters: tokens and positions, of each layer two products and their biases and norms, the last norm."""
    return 256 * 256 + 128 * 256 + layers * (12 * 256 * 256 + 13 * 256) + 2 * 256


def plan(args, layers, offload):
    done = subprocess.run([f"{args.build}/dsc-plan", "--cluster", "local", *words(args, layers, offload), "--json"],
                          capture_output=True, text=True)
    return json.loads(done.stdout) if done.returncode == 0 else None


def largest(args, offload):
    low, high = 1, 2
    while plan(args, high, offload):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if plan(args, middle, offload) else (low, middle)
    return low


def prove(args, layers, offload, foreseen):
    with tempfile.TemporaryDirectory() as folder:
        log = os.path.join(folder, "log")
        subprocess.run([f"{args.build}/dsc-run", *words(args, layers, offload), "--data", args.data, "--steps", "3",
                        "--log", log], check=True, stdout=subprocess.DEVNULL)
        last = [json.loads(line) for line in open(log)][-1]
    for space, key in (("device", "memory"), ("host", "host_memory")):
        used, wanted = last[f"peak_{space}_bytes"][0], foreseen[key]["arena_bytes"]
        print(f"  {space}: {used} bytes used, {wanted} predicted{'' if used == wanted else ': NOT THE SAME'}")
    print(f"  a step {last['step_s']:.2f} s, predicted {foreseen['time']['step_s']:.2f} s; copied in {last['copy_in_bytes']}, out "
          f"{last['copy_out_bytes']} bytes")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", default="build")
    parser.add_argument("--data", required=True)
    parser.add_argument("--device-memory", default="512MiB")
    parser.add_argument("--host-memory", default="16GiB")
    parser.add_argument("--prove", default="none,optimizer,params")
    args = parser.parse_args()
    least = None
    for offload in ("none", "optimizer", "params"):
        layers = largest(args, offload)
        foreseen = plan(args, layers, offload)
        parameters = count(layers)
        least = least or parameters
        print(f"--offload {offload}: {layers} layers, {parameters / 1e6:.1f} M parameters, {parameters / least:.2f} times",
              flush=True)
        if offload in args.prove.split(","):
            prove(args, layers, offload, foreseen)


if __name__ == "__main__":
    main()
