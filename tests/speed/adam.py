#!/usr/bin/env python3
"""AdamW on this machine's CPU: PyTorch's fused kernel beside dsc's, in turn, in one call.

    adam.py --build BUILD [--parameters 67108864] [--threads 2] [--rounds 3]

PyTorch reads gradients in fp32 and reads and writes weights and both moments: 28 bytes a parameter. dsc the same, then
with the weights in bf16 written too (30), then with gradients in bf16 (28). Printed are the best time of each and GB/s.
Needs PyTorch 2.
"""
import argparse
import json
import subprocess
import time

import torch


def pytorch(parameters, repeats=5):
    weight = torch.nn.Parameter(torch.zeros(parameters))
    weight.grad = torch.full((parameters,), 1e-3)
    optimizer = torch.optim.AdamW([weight], lr=1e-3, weight_decay=0.01, fused=True)
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        optimizer.step()
        times.append(time.perf_counter() - start)
    return min(times)


def ours(build, parameters):
    lines = subprocess.run([f"{build}/dsc-bench", "--update", str(parameters), "--json"], check=True,
                           capture_output=True, text=True).stdout.splitlines()
    return [json.loads(line) for line in lines]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", default="build")
    parser.add_argument("--parameters", type=int, default=1 << 26)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    for _ in range(args.rounds):
        theirs = pytorch(args.parameters)
        print(f"PyTorch {torch.__version__} fused AdamW: {theirs:.4f} s, {28e-9 * args.parameters / theirs:.2f} GB/s")
        for row in ours(args.build, args.parameters):
            print(f"dsc, {row['name']}: {row['adam_s']:.4f} s, {row['adam_GB_per_s']:.2f} GB/s, "
                  f"{row['ratio']:.3f} of its streams alone, {theirs / row['adam_s']:.2f} times PyTorch")


if __name__ == "__main__":
    main()
