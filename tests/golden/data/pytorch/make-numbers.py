#!/usr/bin/python3
"""Writes gpt2.json beside this file: what PyTorch computes for three steps of a tiny GPT-2 under AdamW.

    make-numbers.py        needs PyTorch (Debian: python3-torch); made with 1.13 on a CPU, at float64

GPT-2 stands here as its paper's code has it: pre-LayerNorm with epsilon 1e-5, tanh GELU, learned positions, tied head,
biases, no dropout. Tensors have Hugging Face's names; linear weights are [in, out]. Element i of a tensor starts as

    float32(base + 0.5 sin(0.37 (i + 1)^2 + 0.1 (sum of the bytes of its name)))

with base 1 for LayerNorms' weights, else 0,

and the one batch is the rows of `tokens`, row i ending with the first token of row i + 1 as its last target. A case
holds loss and gradient norm (before clipping) of each step, each tensor's gradient in the first step where nothing is
clipped, and its weights after the last.
"""
import json
import math
from pathlib import Path

import torch

LAYERS, HIDDEN, HEADS, VOCAB, SEQ, BATCH, STEPS = 2, 8, 2, 13, 6, 4, 3
LR, BETAS, EPS = 1e-3, (0.9, 0.95), 1e-8
CASES = [{"name": "AdamW", "weight_decay": 0.1, "clip": 0.0},
         {"name": "AdamW and clipping", "weight_decay": 0.0, "clip": 0.5}]


def shapes():
    def pair(name, *shape):
        return {f"{name}.weight": shape, f"{name}.bias": shape[-1:]}
    table = {"transformer.wte.weight": (VOCAB, HIDDEN), "transformer.wpe.weight": (SEQ, HIDDEN)}
    for layer in (f"transformer.h.{i}" for i in range(LAYERS)):
        table |= pair(f"{layer}.ln_1", HIDDEN) | pair(f"{layer}.attn.c_attn", HIDDEN, 3 * HIDDEN)
        table |= pair(f"{layer}.attn.c_proj", HIDDEN, HIDDEN) | pair(f"{layer}.ln_2", HIDDEN)
        table |= pair(f"{layer}.mlp.c_fc", HIDDEN, 4 * HIDDEN) | pair(f"{layer}.mlp.c_proj", 4 * HIDDEN, HIDDEN)
    return table | pair("transformer.ln_f", HIDDEN)


def first_value(name, shape):
    base = 1.0 if ".ln_" in name and name.endswith("weight") else 0.0
    values = [base + 0.5 * math.sin(0.37 * (i + 1) ** 2 + 0.1 * sum(name.encode())) for i in range(math.prod(shape))]
    return torch.tensor(values, dtype=torch.float32).double().view(shape).requires_grad_()


def loss_of(weights, tokens):
    functional = torch.nn.functional
    inputs, targets = tokens[:-1].view(BATCH, SEQ), tokens[1:].view(BATCH, SEQ)

    def linear(x, name):
        return x @ weights[f"{name}.weight"] + weights[f"{name}.bias"]

    def norm(x, name):
        return functional.layer_norm(x, (HIDDEN,), weights[f"{name}.weight"], weights[f"{name}.bias"], 1e-5)

    def attention(x, name):
        parts = linear(x, f"{name}.c_attn").split(HIDDEN, -1)
        q, k, v = (part.view(BATCH, SEQ, HEADS, -1).transpose(1, 2) for part in parts)
        scores = q @ k.transpose(-1, -2) / math.sqrt(HIDDEN // HEADS)
        future = torch.ones(SEQ, SEQ, dtype=torch.bool).triu(1)
        mixed = scores.masked_fill(future, float("-inf")).softmax(-1) @ v
        return linear(mixed.transpose(1, 2).reshape(x.shape), f"{name}.c_proj")

    x = weights["transformer.wte.weight"][inputs] + weights["transformer.wpe.weight"]
    for layer in (f"transformer.h.{i}" for i in range(LAYERS)):
        x = x + attention(norm(x, f"{layer}.ln_1"), f"{layer}.attn")
        hidden = functional.gelu(linear(norm(x, f"{layer}.ln_2"), f"{layer}.mlp.c_fc"), approximate="tanh")
        x = x + linear(hidden, f"{layer}.mlp.c_proj")
    logits = norm(x, "transformer.ln_f") @ weights["transformer.wte.weight"].T
    return functional.cross_entropy(logits.flatten(0, 1), targets.flatten())


def rounded(values):
    return [float(f"{value:.9g}") for value in values]


def listed(tensors):
    return {name: rounded(tensor.detach().flatten().tolist()) for name, tensor in tensors.items()}


def run(case, tokens):
    weights = {name: first_value(name, shape) for name, shape in shapes().items()}
    optimizer = torch.optim.AdamW(weights.values(), lr=LR, betas=BETAS, eps=EPS, weight_decay=case["weight_decay"])
    losses, norms, found = [], [], {}
    for step in range(STEPS):
        optimizer.zero_grad()
        loss = loss_of(weights, tokens)
        loss.backward()
        if step == 0 and case["clip"] == 0:
            found["gradients"] = listed({name: weight.grad for name, weight in weights.items()})
        limit = case["clip"] or math.inf
        norms.append(torch.nn.utils.clip_grad_norm_(weights.values(), limit).item())
        losses.append(loss.item())
        optimizer.step()
    return {**case, "losses": rounded(losses), "norms": rounded(norms), **found, "weights": listed(weights)}


def main():
    tokens = [(i * i * i + 3 * i) % VOCAB for i in range(BATCH * SEQ + 1)]
    numbers = {"source": f"PyTorch {torch.__version__.split('+')[0]}, float64, by make-numbers.py",
               "model": f"layers={LAYERS},hidden={HIDDEN},heads={HEADS},vocab={VOCAB},seq={SEQ}", "batch": BATCH,
               "lr": LR, "beta1": BETAS[0], "beta2": BETAS[1], "eps": EPS, "tokens": tokens,
               "cases": [run(case, torch.tensor(tokens)) for case in CASES]}
    text = json.dumps(numbers, separators=(",", ":")).replace('],"', '],\n"')
    Path(__file__).with_name("gpt2.json").write_text(text + "\n")


main()
