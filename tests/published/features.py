#!/usr/bin/python3
"""The headline results of the four techniques, as published, against dsc-plan's verdicts and predictions.

    features.py [--build DIR] [--markdown] [--fast] [PART...]     (default: all parts; build folder: .)

PART is trillion, offload, capacity, sparse, onebit or one of their beginnings. Each line is a command that can be
repeated, what came out, and what was published (data/feature_*.csv). --fast leaves out what takes more than a second.
Exit status 1 when a claim fails:

  trillion, offload   the verdict is the one that is claimed.
  capacity            the published size is feasible by one of the technique's strategies and twice the size by none
                      (STRATEGIES); static bytes of the ZeRO paper's figure 1 are within 1 % of its formula.
  sparse, onebit      the mean error is at most 25 %; values within the printed reading error are marked.
"""
import argparse
import csv
import json
import math
import re
import shlex
import statistics
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
LIMIT = 25  # per cent, of times and throughputs
VOCAB = 50257

TRILLION = "layers=100,hidden=28800,heads=160,vocab=51200,seq=1024"
FP16 = "--precision fp16 --grad-accum-dtype fp16 --recompute full --micro-batch 1"

# Hidden sizes by billions of parameters, up to which they are taken: ZeRO-Offload (Ren et al. 2021), table 3, and
# ZeRO-Infinity (Rajbhandari et al. 2021), table 1. The number of layers follows from the size.
HIDDEN = ((3, 2048), (5, 2304), (9, 3072), (16, 4096), (65, 8192), (400, 9216), (math.inf, 25600))

# What a technique may do. Tensor parallelism stays in the node, as its authors advise.
TENSOR = ("1", "2", "4", "8", "16")
STRATEGIES = {
    "PyTorch DDP": ["--zero 0"],
    "plain DP": ["--zero 0"],
    "ZeRO-Offload": ["--zero 2 --offload optimizer"],
    "ZeRO-Offload + model parallel": [f"--tp {tp} --zero 2 --offload optimizer" for tp in TENSOR],
    "ZeRO-3": ["--zero 3"],
    "ZeRO-3 Offload": [f"--tp {tp} --zero 3 --offload params" for tp in TENSOR],
    "ZeRO-Infinity CPU": [f"--tp {tp} --zero 3 --offload params" for tp in TENSOR],
}


def three_dimensional(gpus, layers):
    """tp 2 to 16 in the node, as many stages as divide the layers or nearly, the rest replicas; ZeRO 0 and 1."""
    for tp in (16, 8, 4, 2):
        for pp in (1, 2, 4, 8, 25, 50, 100):
            if gpus % (tp * pp) == 0 and pp <= layers and (gpus <= 16 or gpus // (tp * pp) <= 4):
                for zero in (1, 0):
                    yield f"--tp {tp} --pp {pp} --zero {zero} --sequence-parallel"


class Report:
    def __init__(self, args):
        self.build, self.markdown, self.failures = args.build.resolve(), args.markdown, 0

    def plan(self, command):
        """The JSON object of a command; None where the strategy is ruled out."""
        run = subprocess.run([self.build / "dsc-plan", *shlex.split(command), "--json"], cwd=HERE, text=True,
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        if run.returncode == 2:
            return None
        if run.returncode > 1:
            sys.exit(f"features.py: dsc-plan {command}: {run.stderr}")
        return json.loads(run.stdout)

    def title(self, text, columns):
        print(f"\n{text}\n")
        if self.markdown:
            print("| " + " | ".join(columns) + " |\n|" + "---|" * len(columns))

    def line(self, holds, *cells):
        """holds None: a value without a verdict of its own."""
        word = {True: "ok", False: "NOT OK", None: ""}[holds]
        self.failures += holds is False
        print("| " + " | ".join((*cells, word)) + " |" if self.markdown else "  ".join((word.ljust(6), *cells)))


def read(name):
    with open(HERE / "data" / f"feature_{name}.csv", newline="", encoding="utf-8-sig") as file:
        return list(csv.DictReader(file))


def verdict(plan):
    if plan is None:
        return "ruled out"
    memory = plan["memory"]
    words = f"{memory['peak_bytes'] / 2**30:.1f} of {memory['capacity_bytes'] / 2**30:.1f} GiB"
    host = plan["host_memory"]
    if host["peak_bytes"] > host["capacity_bytes"]:
        words += f", host {host['peak_bytes'] / 2**30:.0f} of {host['capacity_bytes'] / 2**30:.0f} GiB"
    return ("fits, " if plan["feasible"] else "does not fit, ") + words


def claim(report, command, is_feasible):
    plan = report.plan(command)
    report.line(plan is not None and plan["feasible"] == is_feasible, f"`{command}`", verdict(plan),
                "fits" if is_feasible else "does not")


# ---- One trillion parameters on 800 V100

def trillion(report, fast):
    report.title("A trillion parameters on 800 V100", ("command", "verdict", "claimed", ""))
    layout = f"--model {TRILLION} --cluster dgx2-v100:50 {FP16}"
    for batch in ("", " --global-batch 1024"):
        cut = f"{layout} --sequence-parallel --tp 8 --pp 50 --dp 2{batch}"
        claim(report, f"{cut} --zero 1", True)
        claim(report, f"{cut} --zero 0", False)
    for tp in ("16",) if fast else TENSOR:
        rows = " --sequence-parallel" if tp != "1" else ""
        for zero in (0, 1, 2):
            claim(report, f"{layout}{rows} --tp {tp} --pp 1 --zero {zero}", False)


# ---- One V100 with ZeRO-Offload

def offload(report, fast):
    report.title("One V100 of 32 GB", ("command", "verdict", "claimed", ""))
    one = f"--cluster dgx2-v100 --dp 1 {FP16}"
    claim(report, f"--model {model(13, math.ceil)} {one} --offload optimizer", True)
    claim(report, f"--model {model(1.4, math.ceil)} {one}", True)
    claim(report, f"--model {model(13, math.ceil)} {one}", False)


# ---- feature_capacity_max_model

def model(billions, rounded):
    """A GPT of that many parameters, at least (math.ceil) or at most (math.floor)."""
    hidden = next(hidden for most, hidden in HIDDEN if billions <= most)
    layers = (billions * 1e9 - (VOCAB + 1024) * hidden) / (12 * hidden ** 2 + 13 * hidden)
    return shape(rounded(layers), hidden)


def shape(layers, hidden):
    return f"layers={layers},hidden={hidden},heads={hidden // 128},vocab={VOCAB},seq=1024"


def cluster_of(gpus):
    return ("dgx2-v100 --dp 1" if gpus == 1 else f"dgx2-v100:{math.ceil(gpus / 16)}")


def candidates(technique, gpus, size):
    """The technique's commands for a model."""
    layers = int(re.match(r"layers=(\d+)", size).group(1))
    if technique == "3D parallelism":
        strategies = three_dimensional(gpus, layers)
    else:
        strategies = [s for s in STRATEGIES[technique] if gpus > 1 or "--tp" not in s or "--tp 1 " in s]
    for strategy in strategies:
        yield f"--model {size} --cluster {cluster_of(gpus)} {FP16} {strategy}"


def first_that_fits(report, commands):
    """The first feasible command and its plan, or the one that needs least."""
    least = None
    for command in commands:
        plan = report.plan(command)
        if plan is None:
            continue
        if plan["feasible"]:
            return command, plan
        if least is None or plan["memory"]["peak_bytes"] < least[1]["memory"]["peak_bytes"]:
            least = command, plan
    return least or ("", None)


def static_bytes(report, row):
    """Figure 1 of the ZeRO paper: 7.5 B parameters on 64 GPUs, bytes a parameter by stage (the printed figures are
    rounded to 0.1 GB). Several micro-batches, so that gradients are kept."""
    stage = int((re.match(r"ZeRO-(\d)", row["technique"]) or "00")[1])
    formula = 7.5 * (16, 4 + 12 / 64, 2 + 14 / 64, 16 / 64)[stage]
    command = (f"--model layers=23,hidden=5120,heads=40,vocab={VOCAB},seq=1024 --cluster dgx2-v100:4 {FP16} "
               f"--global-batch 128 --zero {stage}")
    total = sum(report.plan(command)["static_memory"].values()) / 1e9
    error = 100 * (total - formula) / formula
    report.line(abs(error) <= 1, f"`{command}`", f"{total:.2f} GB of states", f"{row['gpu_mem_GB']} GB, {error:+.1f} %")


def capacity(report, fast):
    report.title("The largest models that were published, and twice as large",
                 ("command", "verdict", "published", ""))
    for row in read("capacity_max_model"):
        technique, gpus, size = row["technique"], int(row["gpus"]), float(row["max_params_B"])
        if "NVMe" in technique or (fast and gpus > 64):
            continue
        if row["gpu"] == "any":
            static_bytes(report, row)
            continue
        where = f"{technique}, {gpus} GPUs"
        command, plan = first_that_fits(report, candidates(technique, gpus, model(size, math.ceil)))
        report.line(bool(plan and plan["feasible"]), f"`{command}`", verdict(plan), f"{where}: {size:g} B")
        if technique == "ZeRO-3 Offload" and gpus == 1:
            continue
        command, plan = first_that_fits(report, candidates(technique, gpus, model(2 * size, math.floor)))
        report.line(not (plan and plan["feasible"]), f"`{command}`", verdict(plan), f"{where}: not {2 * size:g} B")


# ---- feature_sparse_attention, feature_onebit_adam_samples_per_s

def compare(report, command, guess, measured, reading, errors):
    error = 100 * (guess - measured) / measured
    near = ", within reading" if abs(guess - measured) <= reading else ""
    errors.append(abs(error))
    report.line(None, f"`{command}`", f"{guess:.4g}", f"{measured:g}", f"{error:+.0f} %{near}")


def mean(report, name, errors):
    value = statistics.mean(errors)
    report.line(value <= LIMIT, name, f"mean error {value:.1f} % over {len(errors)} values", f"{LIMIT} % allowed", "")


# "GPT2 253-283M" has learned positions. Of all shapes with GPT-2's vocabulary and hidden sizes of whole heads of 64, 30
# layers of 768 alone have 253 M parameters with the 2,048 tokens of the first row, and 283 M with any number of
# thousands (40 x 1,024).
SHAPES = {"GPT2 253-283M": "layers=30,hidden=768,heads=12,vocab=50257,seq={seq}",
          "BERT-base": "layers=12,hidden=768,heads=12,vocab=30522,seq={seq},causal=0",
          "BERT-large": "layers=24,hidden=1024,heads=16,vocab=30522,seq={seq},causal=0"}


def sparse(report, fast):
    report.title("A step with dense and with sparse attention, ms", ("command", "predicted", "published", "error", ""))
    errors = []
    for row in read("sparse_attention"):
        if not row["dense_ckpt_ms"]:
            continue
        reading = float(re.search(r"\+-(\d+)", row["verified"] + row["source"])[1]) if "+-" in row["verified"] else 0
        for attention, column in (("dense-unfused", "dense_ckpt_ms"), ("fixed", "sparse_ckpt_ms")):
            command = (f"--model {SHAPES[row['model']].format(seq=row['seq'])} --cluster dgx2-v100 --dp 1 "
                       f"--precision fp16 --recompute full --attention {attention}")
            step_ms = 1e3 * report.plan(command)["time"]["step_s"]
            compare(report, command, step_ms, float(row[column]), reading, errors)
    mean(report, "sparse attention", errors)


def onebit(report, fast):
    report.title("Samples a second of BERT-Large by Adam and, behind its warm-up, by 1-bit Adam",
                 ("command", "predicted", "published", "error", ""))
    errors = []
    for row in read("onebit_adam_samples_per_s"):
        if not row["adam_samples_s"]:
            continue
        cluster = "v100-qdr" if "IB" in row["network"] else "v100-40gbe"
        seq, reading = re.search(r"seq(\d+)", row["task"])[1], float(re.search(r"\+-(\d+)", row["verified"])[1])
        for optimizer, column in (("adam", "adam_samples_s"), ("onebit-adam --onebit-exchange flat",
                                                              "onebit_samples_s")):
            command = (f"--model layers=24,hidden=1024,heads=16,vocab=30522,seq=512,causal=0 --seq-len {seq} "
                       f"--cluster clusters/{cluster}.json --dp {row['gpus']} --micro-batch {row['batch_per_gpu']} "
                       f"--precision fp16 --attention dense-unfused --optimizer {optimizer}")
            samples = int(row["gpus"]) * int(row["batch_per_gpu"]) / report.plan(command)["time"]["step_s"]
            compare(report, command, samples, float(row[column]), reading, errors)
    mean(report, "1-bit Adam", errors)


PARTS = {"trillion": trillion, "offload": offload, "capacity": capacity, "sparse": sparse, "onebit": onebit}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART")
    parser.add_argument("--build", type=Path, default=Path("."))
    parser.add_argument("--markdown", action="store_true", help="tables as Markdown")
    parser.add_argument("--fast", action="store_true", help="leave out what takes more than a second")
    args = parser.parse_args()
    report = Report(args)
    for name, part in PARTS.items():
        if not args.parts or any(name.startswith(word) for word in args.parts):
            part(report, args.fast)
    print(f"\n{report.failures} claims fail" if report.failures else "\nall claims hold")
    return 1 if report.failures else 0


if __name__ == "__main__":
    sys.exit(main())
