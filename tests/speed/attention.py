#!/usr/bin/env python3
"""Attention on this machine's CPU: dsc's, dense and over present blocks, beside PyTorch's, in turn, in one call.

    attention.py --build BUILD [--tokens 4096,16384] [--density 0.25] [--threads 2] [--rounds 3]
    attention.py --build BUILD --growth [--random] [--tokens 1024,2048,4096,8192,16384,32768]

8 heads of 64, one sequence. PyTorch's scaled_dot_product_attention gets queries, keys and values apart and contiguous,
which suits it; dsc reads its fused rows of q, k and v. With --growth as many blocks a row at every length: the time of
a forward and a backward pass, and how far it is from a line through the origin. Needs PyTorch 2 but for --growth.
"""
import argparse
import json
import subprocess
import time


def pytorch(tokens, dtype, causal, rounds):
    """Best seconds of forward, and of forward and backward."""
    import torch
    q, k, v = (torch.randn(1, 8, tokens, 64).to(dtype).requires_grad_() for _ in range(3))
    gradient = torch.randn(1, 8, tokens, 64).to(dtype)
    forward, both = [], []
    for _ in range(rounds):
        start = time.perf_counter()
        with torch.no_grad():
            torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=causal)
        forward.append(time.perf_counter() - start)
        start = time.perf_counter()
        out = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=causal)
        torch.autograd.grad(out, (q, k, v), gradient)
        both.append(time.perf_counter() - start)
    return min(forward), min(both)


def ours(build, tokens, *which):
    lines = subprocess.run([f"{build}/dsc-bench", "--attention", str(tokens), *which, "--json"],
                           check=True, capture_output=True, text=True).stdout.splitlines()
    return [json.loads(line) for line in lines]


def compare(args):
    import torch
    torch.set_num_threads(args.threads)
    dtypes = {"fp32": torch.float32, "bf16": torch.bfloat16}
    for tokens in args.tokens:
        for row in ours(args.build, tokens, "--density", str(args.density)):
            name = f"{row['type']} causal {row['causal']} {tokens} tokens"
            if row["block"] == 0:
                forward, both = pytorch(tokens, dtypes[row["type"]], bool(row["causal"]), args.rounds)
                print(f"{name}, dense: forward {row['forward_s']:.4f} s, with backward {row['both_s']:.4f} s; PyTorch "
                      f"{torch.__version__} {forward:.4f} and {both:.4f} s: {forward / row['forward_s']:.2f} and "
                      f"{both / row['both_s']:.2f} times", flush=True)
                dense = row
            else:
                print(f"{name}, blocks of {row['block']}, density {row['density']:.3f}: {row['forward_of_dense']:.2f} and "
                      f"{row['both_of_dense']:.2f} of dense FLOP/s, {dense['forward_s'] / row['forward_s']:.2f} and "
                      f"{dense['both_s'] / row['both_s']:.2f} times as fast", flush=True)


def growth(args):
    """A window of 1,024 tokens at every length, or random blocks of as many."""
    rows = [row for tokens in args.tokens
            for row in ours(args.build, tokens, *(["--density", str(min(1, 1024 / tokens))] if args.random else ["--window", "1024"]))
            if row["type"] == "fp32" and row["block"] > 0 and not row["causal"]]
    for block in (16, 32, 64, 128):
        points = [(row["present"], row["both_s"], row["tokens"]) for row in rows if row["block"] == block]
        slope = sum(x * y / y / y for x, y, _ in points) / sum(x * x / y / y for x, y, _ in points)  # relative errors
        print(f"blocks of {block}: {slope * 1e9:.0f} ns a block; off the line: " +
              ", ".join(f"{tokens} tokens {y / (slope * x) - 1:+.1%}" for x, y, tokens in points))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", default="build")
    parser.add_argument("--tokens", type=lambda text: [int(word) for word in text.split(",")])
    parser.add_argument("--density", type=float, default=0.25)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--growth", action="store_true")
    parser.add_argument("--random", action="store_true")
    args = parser.parse_args()
    args.tokens = args.tokens or ([1024, 2048, 4096, 8192, 16384, 32768] if args.growth else [4096, 16384])
    growth(args) if args.growth else compare(args)


if __name__ == "__main__":
    main()
