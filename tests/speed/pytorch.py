#!/usr/bin/env python3
"""GPT-2 training on this machine's CPU: PyTorch beside dsc-run, in turn, in one call.

    pytorch.py --build BUILD --data TEXT [--rounds 3] [--steps 6] [--threads 2]

Both train GPT-2 124M on 4 sequences of 256 tokens, AdamW, clipping off, fp32 and bf16 (PyTorch: autocast). Printed are
the tokens/s of each round's median step after the first two, and the ratio of the medians. Needs PyTorch 2.
"""
import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time

import torch
from torch import nn
from torch.nn import functional

LAYERS, HIDDEN, HEADS, VOCAB, POSITIONS, BATCH, SEQ = 12, 768, 12, 50257, 1024, 4, 256


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(HIDDEN), nn.LayerNorm(HIDDEN)
        self.qkv, self.proj = nn.Linear(HIDDEN, 3 * HIDDEN), nn.Linear(HIDDEN, HIDDEN)
        self.fc, self.out = nn.Linear(HIDDEN, 4 * HIDDEN), nn.Linear(4 * HIDDEN, HIDDEN)

    def forward(self, x):
        q, k, v = (part.view(BATCH, SEQ, HEADS, -1).transpose(1, 2) for part in self.qkv(self.norm1(x)).split(HIDDEN, -1))
        mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.proj(mixed.transpose(1, 2).reshape(x.shape))
        return x + self.out(functional.gelu(self.fc(self.norm2(x)), approximate="tanh"))


class GPT2(nn.Module):
    def __init__(self):
        super().__init__()
        self.wte, self.wpe = nn.Embedding(VOCAB, HIDDEN), nn.Embedding(POSITIONS, HIDDEN)
        self.blocks = nn.ModuleList(Block() for _ in range(LAYERS))
        self.norm = nn.LayerNorm(HIDDEN)
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.normal_(parameter, 0, 0.02)

    def forward(self, inputs, targets):
        x = self.wte(inputs) + self.wpe(torch.arange(SEQ))
        for block in self.blocks:
            x = block(x)
        logits = self.norm(x) @ self.wte.weight.T
        return functional.cross_entropy(logits.view(-1, VOCAB), targets.view(-1))


def pytorch(precision, steps):
    """Tokens/s of the median step after the first two."""
    torch.manual_seed(1)
    model = GPT2()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.0, fused=True)
    inputs, targets = (torch.randint(0, 256, (BATCH, SEQ)) for _ in range(2))
    times = []
    for _ in range(steps):
        start = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            loss = model(inputs, targets)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        times.append(time.perf_counter() - start)
    return BATCH * SEQ / statistics.median(times[2:])


def dsc(args, precision, steps):
    with tempfile.NamedTemporaryFile(suffix=".jsonl") as log:
        subprocess.run([f"{args.build}/dsc-run", "--model", "gpt2", "--data", args.data, "--seq-len", str(SEQ),
                        "--micro-batch", str(BATCH), "--global-batch", str(BATCH), "--precision", precision,
                        "--steps", str(steps), "--lr", "1e-4", "--log", log.name], check=True, stdout=subprocess.DEVNULL)
        times = [json.loads(line)["step_s"] for line in open(log.name)]
    return BATCH * SEQ / statistics.median(times[2:])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", default="build")
    parser.add_argument("--data", required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--threads", type=int, default=0)
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    print(f"PyTorch {torch.__version__}, {torch.get_num_threads()} threads; GPT-2 124M, {BATCH} x {SEQ} tokens")
    for precision in ("fp32", "bf16"):
        theirs, ours = [], []
        for _ in range(args.rounds):
            theirs.append(pytorch(precision, args.steps))
            ours.append(dsc(args, precision, args.steps))
        ratio = statistics.median(ours) / statistics.median(theirs)
        print(f"{precision}: PyTorch {[round(x) for x in theirs]}, dsc {[round(x) for x in ours]} tokens/s, ratio {ratio:.2f}",
              flush=True)


if __name__ == "__main__":
    sys.exit(main())
