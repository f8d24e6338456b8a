#!/usr/bin/env python3
"""The longest sequence that one rank trains in a given memory, with sparse attention and with dense.

    length.py --build BUILD --data TEXT [--device-memory 1GiB] [--attention bslongformer] [--calibration m.h5] [--dense]

A small GPT (4 layers, hidden 128, 8 heads, 256 tokens, full recompute) whose positions grow with the sequence. dsc-plan
--longest-seq finds the lengths; dsc-run trains three steps at each, and its arena is compared with the predicted one; 128
tokens more have to be refused. Then, at the length of the sparse one, tokens/s beside fused dense attention: of a step
that is run with --dense, else the planner's.
"""
import argparse
import json
import os
import subprocess
import tempfile


def words(args, attention, seq):
    return ["--model", f"layers=4,hidden=128,heads=8,vocab=256,seq={seq}", "--recompute", "full", "--attention", attention,
            "--device-memory", args.device_memory]


def plan(args, attention, seq, *more):
    prices = ["--calibration", args.calibration] if args.calibration else []
    return subprocess.run([f"{args.build}/dsc-plan", "--cluster", "local", *prices, *words(args, attention, seq), "--json", *more],
                          capture_output=True, text=True)


def run(args, attention, seq, steps):
    """The log's lines, or None when the run was refused."""
    with tempfile.TemporaryDirectory() as folder:
        log = os.path.join(folder, "log")
        done = subprocess.run([f"{args.build}/dsc-run", *words(args, attention, seq), "--data", args.data, "--steps",
                               str(steps), "--log", log], capture_output=True, text=True)
        return [json.loads(line) for line in open(log)] if done.returncode == 0 else None


def prove(args, attention, seq):
    """Tokens/s of the fastest step."""
    foreseen = json.loads(plan(args, attention, seq).stdout)
    lines = run(args, attention, seq, 3)
    used, wanted = lines[-1]["peak_device_bytes"][0], foreseen["memory"]["arena_bytes"]
    speed = seq / min(line["step_s"] for line in lines)
    print(f"  trained: {used} bytes used, {wanted} predicted{'' if used == wanted else ': NOT THE SAME'}; {speed:.0f} tokens/s, "
          f"predicted {foreseen['tokens_per_s']:.0f}; loss {lines[0]['loss']:.4f} to {lines[-1]['loss']:.4f}")
    refused = plan(args, attention, seq + 128).returncode, run(args, attention, seq + 128, 1)
    print(f"  {seq + 128} tokens: dsc-plan ends with {refused[0]}, dsc-run {'refuses' if refused[1] is None else 'TRAINS'}")
    return speed


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", default="build")
    parser.add_argument("--data", required=True)
    parser.add_argument("--device-memory", default="1GiB")
    parser.add_argument("--attention", default="bslongformer")
    parser.add_argument("--calibration", default="")
    parser.add_argument("--dense", action="store_true")
    args = parser.parse_args()
    rows = {row["attention"]: row for row in json.loads(plan(args, args.attention, 128, "--longest-seq").stdout)}
    longest, unfused = rows[args.attention]["seq_len"], rows["dense-unfused"]["seq_len"]
    print(f"{args.attention}: {longest} tokens, {longest / unfused:.2f} times dense-unfused's {unfused}", flush=True)
    speed = prove(args, args.attention, longest)
    print(f"dense-unfused: {unfused} tokens", flush=True)
    prove(args, "dense-unfused", unfused)
    whole = args.__class__(**{**vars(args), "device_memory": "64GiB"})
    dense = json.loads(plan(whole, "dense", longest).stdout)["tokens_per_s"]
    how = "predicted"
    if args.dense:
        how, dense = f"measured ({dense:.0f} predicted)", longest / run(whole, "dense", longest, 1)[0]["step_s"]
    print(f"dense at {longest} tokens: {dense:.0f} tokens/s {how}; {args.attention} is {speed / dense:.1f} times as fast")


if __name__ == "__main__":
    main()
