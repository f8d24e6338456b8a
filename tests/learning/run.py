#!/usr/bin/python3
"""Does sparse attention learn? Two experiments, each one command.

    run.py text   OUT --build BUILD --text FILE_OR_FOLDER [--threads 4] [--steps 800]
    run.py recall OUT --build BUILD [--threads 4] [--steps 1500]

text     A causal model of bytes, 2,048 positions, trained with dense, fixed and bslongformer attention: same data, batches,
         initial values and steps. The last 64 sequences of the text are held out.
recall   The far-context task of recall.py, with bslongformer (the first block is global) and with a local window of the
         same width, through which nothing gets across 4,000 tokens.

The runs of an experiment go side by side, --threads each. Logs, checkpoints and layouts stay in OUT; a command that is given
again goes on from its last checkpoint. At the end one more step at learning rate 0, with all of the held-out data as its
batch, evaluates the final weights; plot.py draws the curves.
"""
import argparse
import json
import os
import pathlib
import subprocess
import sys

import recall

# Blocks that are present, as shares of all and of the triangle that a causal model sees, are 25 % or less by both counts.
FIXED = {"mode": "fixed", "block": 16, "attention": "unidirectional", "num_local_blocks": 16, "num_global_blocks": 2,
         "different_layout_per_head": True, "num_different_global_patterns": 4}
LONGFORMER = {"mode": "bslongformer", "block": 16, "num_sliding_window_blocks": 31, "global_block_indices": [0]}
# DeepSpeed's defaults, written out: a query sees at most 32 tokens, and the first 16.
FAR = {"mode": "bslongformer", "block": 16, "num_sliding_window_blocks": 3, "global_block_indices": [0]}
NEAR = {"mode": "local", "block": 16, "num_sliding_window_blocks": 3}

EXPERIMENTS = {
    "text": {"attention": {"dense": {"mode": "dense", "block": 16}, "fixed": FIXED, "bslongformer": LONGFORMER},
             "layers": 4, "hidden": 128, "heads": 4, "vocab": 256, "seq": 2048, "batch": 8, "lr": 3e-3, "clip": 1.0,
             "betas": (0.9, 0.95), "steps": 800},
    # The filler's gradients are large at first and then vanish: Adam must soon forget them (beta2), and average what little
    # comes of the letters over many steps (beta1). Many heads: some attend a little to the right place from the start.
    "recall": {"attention": {"bslongformer": FAR, "local": NEAR},
               "layers": 2, "hidden": 64, "heads": 8, "vocab": 128, "seq": recall.SEQ, "batch": 16, "lr": 1e-2, "clip": 0.1,
               "betas": (0.97, 0.97), "steps": 1500},
}
HELD_OUT = 64  # sequences, of which one batch is evaluated during training


def write_text(path, folder, seq):
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    data = b"".join(p.read_bytes() for p in files)
    cut = len(data) - HELD_OUT * seq - 1
    if cut < 8 * HELD_OUT * seq:
        sys.exit(f"{path}: {len(data)} bytes are too few")
    (folder / "train.txt").write_bytes(data[:cut])
    (folder / "valid.txt").write_bytes(data[cut:])


def command(options, e, name, steps, batch, log):
    """dsc-run with this many threads: hwloc shows it a machine of so many cores."""
    out = options.out
    model = ",".join(f"{key}={e[key]}" for key in ("layers", "hidden", "heads", "vocab", "seq"))
    words = [options.build / "dsc-run", "--model", model,
             "--attention", "dense" if name == "dense" else out / f"{name}.json", "--data", out / "train.txt",
             "--eval-data", out / "valid.txt", "--steps", steps, "--micro-batch", 4, "--global-batch", batch,
             "--beta1", e["betas"][0], "--beta2", e["betas"][1], "--gradient-clipping", e["clip"],
             "--save", out / name, "--resume", "auto", "--log", log]
    machine = {"HWLOC_SYNTHETIC": f"[numa(memory=64GB)] core:{options.threads} pu:1"}
    return {"args": [str(word) for word in words], "env": os.environ | machine}


def train(options, e):
    """All attentions side by side; then their final weights, one after the other."""
    running = []
    for name, section in e["attention"].items():
        (options.out / f"{name}.json").write_text(json.dumps(section))
        call = command(options, e, name, options.steps, e["batch"], options.out / f"{name}.jsonl")
        call["args"] += ["--lr", str(e["lr"]), "--eval-every", "10", "--save-every", str(options.save_every),
                         "--scheduler", "WarmupCosineLR", "--warmup-num-steps", "40", "--cos-min-ratio", "0.05",
                         "--total-num-steps", str(options.steps)]
        running.append(subprocess.Popen(**call, stdout=(options.out / f"{name}.out").open("a")))
    if any([process.wait() for process in running]):
        sys.exit("a run failed")
    for name in e["attention"]:
        call = command(options, e, name, options.steps + 1, HELD_OUT, options.out / f"{name}.final.jsonl")
        subprocess.run(**call | {"args": call["args"] + ["--lr", "0"]}, check=True, stdout=subprocess.DEVNULL)


def make_layout(options, e, name):
    """Written for recall.py. Returns the shares of present blocks: as dsc-plan prints it, and of the causal triangle."""
    done = subprocess.run([options.build / "dsc-plan", "--show-layout", options.out / f"{name}.json", "--seq-len", str(e["seq"]),
                           "--num-heads", str(e["heads"]), "--json"], check=True, capture_output=True, text=True)
    (options.out / f"{name}.layout.json").write_text(done.stdout)
    heads = json.loads(done.stdout)["layout"]
    n = len(heads[0])
    present = [row[:r + 1] for head in heads for r, row in enumerate(head)]
    return (sum(sum(row) for head in heads for row in head) / (len(heads) * n * n),
            sum(sum(row) for row in present) / (len(heads) * n * (n + 1) / 2))


def final_loss(options, name):
    return json.loads((options.out / f"{name}.final.jsonl").read_text().splitlines()[-1])["eval_loss"]


def report_text(options, e):
    print("attention      density  of triangle  held-out loss  to dense")
    for name in e["attention"]:
        square, triangle = make_layout(options, e, name)
        loss = final_loss(options, name)
        print(f"{name:13} {100 * square:7.1f} % {100 * triangle:9.1f} %  {loss:13.4f}  {loss / final_loss(options, 'dense'):8.4f}")


def report_recall(options, e):
    """Scores the checkpoints, the last on all of the held-out data: its loss has to be dsc-run's."""
    print(f"attention      density  of triangle  letters right  all eight  held-out loss, of numpy   (chance: {100 / recall.VALUES} %)")
    for name in e["attention"]:
        square, triangle = make_layout(options, e, name)
        layout = json.loads((options.out / f"{name}.layout.json").read_text())
        with (options.out / f"{name}.recall.jsonl").open("w") as file:
            folders = sorted((options.out / name).glob("step-*"))
            for folder in folders:
                s = recall.score(folder, options.out / "valid.txt", layout, HELD_OUT if folder == folders[-1] else HELD_OUT // 4)
                file.write(json.dumps({"step": int(folder.name[5:])} | s) + "\n")
        loss = final_loss(options, name)
        print(f"{name:13} {100 * square:7.1f} % {100 * triangle:9.1f} %  {100 * s['exact']:11.2f} % {100 * s['all_eight']:8.1f} %"
              f"  {loss:13.8f}  {s['loss']:.8f}", flush=True)
        if abs(loss - s["loss"]) > 1e-4 * loss:
            sys.exit(f"{name}: the losses differ")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("experiment", choices=EXPERIMENTS)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--build", type=pathlib.Path, required=True)
    parser.add_argument("--text", type=pathlib.Path)
    parser.add_argument("--threads", type=int, default=4)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--save-every", type=int, default=100)
    options = parser.parse_args()
    e = EXPERIMENTS[options.experiment]
    options.build = options.build.resolve()
    options.steps = options.steps or e["steps"]
    options.out.mkdir(parents=True, exist_ok=True)
    if options.experiment == "recall":
        recall.make(options.out, "train", 4096, 1)
        recall.make(options.out, "valid", HELD_OUT, 2)
    elif options.text:
        write_text(options.text, options.out, e["seq"])
    else:
        parser.error("text needs --text")
    train(options, e)
    {"text": report_text, "recall": report_recall}[options.experiment](options, e)


if __name__ == "__main__":
    main()
