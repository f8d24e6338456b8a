#!/usr/bin/python3
"""The far-context task: eight random letters, 4,078 tokens of filler, and the eight letters again.

    recall.py make DIR [--train 4096] [--valid 64]      writes DIR/train.txt and DIR/valid.txt
    recall.py score STEP-FOLDER DATA --layout L.json    what a checkpoint recalls, of the first 64 sequences

A sequence is 4,096 bytes, so samples of --seq-len 4096, which are cut at stride 4096, are just the sequences:

    newline, 8 letters of a-p, 4,078 letters of filler, "?", the 8 letters again

The filler is the alphabet A-Z over and over, from a random letter on: not constant, so that keys differ, but after its first
letter foretold by the letter before. Random filler would be 4,078 tokens of noise in the gradient to 8 of signal, and what
is to be shown, that letters get across, is no other. The loss has a floor, which score prints: the letters when first seen
and where the alphabet begins. A model that recalls nothing stays 8 ln(16) / 4096 above it.

score knows nothing of dsc but its files: it computes GPT-2's forward pass with numpy from checkpoint.h5 and the layout of
`dsc-plan --show-layout ... --json`, and prints, as JSON, the share of the letters whose argmax is right, of sequences in
which all eight are, and the loss over all tokens. When DATA are those that dsc-run evaluates, and no more than one global
batch, this loss and its eval_loss must agree: then data, checkpoint, layout, kernels and model are all what they say.
"""
import argparse
import json
import math
import pathlib

import h5py
import numpy as np

SEQ, LETTERS, VALUES = 4096, 8, 16
FILLER = SEQ - 2 * LETTERS - 2
FIRST, AGAIN = 1, SEQ - LETTERS  # positions of the letters


def make(folder, name, count, seed):
    random = np.random.default_rng(seed)
    data = np.empty((count, SEQ), np.uint8)
    letters = ord("a") + random.integers(VALUES, size=(count, LETTERS))
    data[:, 0] = ord("\n")
    data[:, FIRST:FIRST + LETTERS] = data[:, AGAIN:] = letters
    data[:, FIRST + LETTERS:AGAIN - 1] = ord("A") + (random.integers(26, size=(count, 1)) + np.arange(FILLER)) % 26
    data[:, AGAIN - 1] = ord("?")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.txt").write_bytes(data.tobytes() + b"\n")  # the last sample's last target


def floor():
    """The least mean loss: of letters when first seen, and of where the alphabet begins."""
    return (LETTERS * math.log(VALUES) + math.log(26)) / SEQ


# ---- GPT-2, forward. Of one sequence; x is [T, C]

def norm(x, w, name):
    x = x - x.mean(-1, keepdims=True)
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + 1e-5) * w[f"{name}.weight"] + w[f"{name}.bias"]


def product(x, w, name):
    return x @ w[f"{name}.weight"] + w[f"{name}.bias"]


def gelu(x):
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x)))


def softmax(x):
    x = np.exp(x - x.max(-1, keepdims=True))
    return x / x.sum(-1, keepdims=True)


def attend(q, k, v, block, layout):
    """One head, [T, d] each: a block row of queries at a time, with the present blocks of keys up to it."""
    y = np.empty_like(v)
    for row, present in enumerate(layout):
        columns = [c for c in range(row + 1) if present[c]]
        keys = np.concatenate([np.arange(c * block, (c + 1) * block) for c in columns])
        queries = np.arange(row * block, (row + 1) * block)
        scores = q[queries] @ k[keys].T / math.sqrt(q.shape[1])
        scores[keys[None, :] > queries[:, None]] = -np.inf
        y[queries] = softmax(scores) @ v[keys]
    return y


def forward(w, tokens, block, layouts):
    """Logits [T, V]; layouts has one [row][column] a head."""
    x = w["transformer.wte.weight"][tokens] + w["transformer.wpe.weight"][:len(tokens)]
    layers = 1 + max(int(name.split(".")[2]) for name in w if ".h." in name)
    for layer in range(layers):
        at = f"transformer.h.{layer}"
        heads = np.split(product(norm(x, w, f"{at}.ln_1"), w, f"{at}.attn.c_attn"), 3 * len(layouts), -1)
        n = len(layouts)
        y = [attend(heads[h], heads[n + h], heads[2 * n + h], block, layouts[h]) for h in range(n)]
        x = x + product(np.concatenate(y, -1), w, f"{at}.attn.c_proj")
        x = x + product(gelu(product(norm(x, w, f"{at}.ln_2"), w, f"{at}.mlp.c_fc")), w, f"{at}.mlp.c_proj")
    return norm(x, w, "transformer.ln_f") @ w["transformer.wte.weight"].T


def score(checkpoint, data, layout, most=64):
    with h5py.File(checkpoint / "checkpoint.h5") as file:
        w = {name: np.asarray(tensor) for name, tensor in file["model"].items()}
    tokens = np.fromfile(data, np.uint8)
    right, loss = [], []
    for first in range(0, len(tokens) - 1, SEQ)[:most]:
        sample = tokens[first:first + SEQ + 1]
        logits = forward(w, sample[:-1], layout["block"], layout["layout"])
        p = softmax(logits.astype(np.float64))[np.arange(SEQ), sample[1:]]
        loss.append(-np.log(p).mean())
        right.append(logits[AGAIN - 1:-1].argmax(-1) == sample[AGAIN:-1])
    right = np.array(right)
    return {"letters": right.size, "exact": right.mean(), "all_eight": right.all(-1).mean(), "loss": np.mean(loss),
            "floor": floor()}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    maker = commands.add_parser("make")
    maker.add_argument("folder", type=pathlib.Path)
    maker.add_argument("--train", type=int, default=4096)
    maker.add_argument("--valid", type=int, default=64)
    scorer = commands.add_parser("score")
    scorer.add_argument("checkpoint", type=pathlib.Path)
    scorer.add_argument("data", type=pathlib.Path)
    scorer.add_argument("--layout", type=pathlib.Path, required=True)
    options = parser.parse_args()
    if options.command == "make":
        make(options.folder, "train", options.train, 1)
        make(options.folder, "valid", options.valid, 2)
    else:
        print(json.dumps(score(options.checkpoint, options.data, json.loads(options.layout.read_text()))))


if __name__ == "__main__":
    main()
