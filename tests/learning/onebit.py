#!/usr/bin/python3
"""Does 1-bit Adam learn as Adam does? A GPT of bytes of real text, on data parallel ranks, with several seeds.

    text.py TEXT.bin
    onebit.py OUT --build BUILD --text TEXT.bin [--optimizers adam,onebit-adam:reference,onebit-adam:paper]

A seed chooses the initial values and the order of the batches: the same for all optimizers. No window of the text is
trained on twice, so the training loss is that of text not yet seen. Besides, blocks from all over the text are held
out; five times in a run all of them are evaluated, by a step at learning rate 0 that goes on from that step's
checkpoint and is thrown away. An optimizer may be followed by what --onebit-semantics shall be.

The runs go side by side, --jobs at a time, each with --ranks ranks of --threads threads. Logs and last checkpoints
stay in OUT; a command that is stopped and given again goes on from them. At the end plot.py draws learning.svg and
writes learning.csv and learning-held-out.csv there.
"""
import argparse
import array
import collections
import concurrent.futures
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys

import plot
import text

MODEL = {"layers": 4, "hidden": 256, "heads": 4, "seq": 128}
# When the second moment is frozen, after a fifth of the steps, the rate's warm-up must be long over, and beta2 must
# have forgotten the gradients from before its end.
TRAINING = {"micro-batch": 4, "beta1": 0.9, "beta2": 0.99, "scheduler": "WarmupCosineLR", "warmup-type": "linear",
            "cos-min-ratio": 0.05}
WARM_UP, FROZEN = 0.1, 0.2    # shares of the steps
HELD_OUT, BLOCK = 512, 16     # sequences, and how many lie together in the text
POINTS = 5                    # evaluations of a run

Run = collections.namedtuple("Run", "optimizer semantics seed")


def name_of(run):
    return "-".join(filter(None, [run.optimizer, run.semantics]))


def path_of(options, run, suffix):
    return options.out / f"{name_of(run)}.{run.seed}{suffix}"


def write_data(options):
    """Blocks of the text at equal distances, and what lies between them."""
    tokens, width = text.read_tokens(options.text), BLOCK * MODEL["seq"]
    distance = len(tokens) // (HELD_OUT // BLOCK)
    needed = (HELD_OUT + options.steps * options.ranks * TRAINING["micro-batch"]) * MODEL["seq"] + 1
    if len(tokens) < needed:
        sys.exit(f"{options.text}: {len(tokens)} tokens, and {options.steps} steps without repetition take {needed}")
    held_out, rest = array.array("H"), array.array("H")
    for at in range(0, distance * (HELD_OUT // BLOCK), distance):
        held_out += tokens[at:at + width]
        rest += tokens[at + width:at + distance]
    text.write_tokens(options.out / "train.bin", rest)
    text.write_tokens(options.out / "valid.bin", held_out + rest[:1])
    options.vocab = max(tokens) + 1


def launch(options, run, out, **given):
    """Runs dsc-run; hwloc shows it a machine of as many cores as the run has threads."""
    batch = options.ranks * TRAINING["micro-batch"]
    model = ",".join(f"{key}={value}" for key, value in (MODEL | {"vocab": options.vocab}).items())
    words = TRAINING | {
        "model": model, "data": options.out / "train.bin", "dp": options.ranks, "seed": run.seed, "bind": "none",
        "optimizer": run.optimizer, "lr": options.lr, "global-batch": batch, "gradient-clipping": options.clip,
        "warmup-num-steps": round(WARM_UP * options.steps), "total-num-steps": options.steps,
    } | dict(word.split("=", 1) for word in options.set)
    words |= {key.replace("_", "-"): value for key, value in given.items()}
    if run.optimizer != "adam":  # flat: ranks of one node would otherwise be free to exchange exactly
        words |= {"freeze-step": round(FROZEN * options.steps), "onebit-exchange": "flat"}
    if run.semantics:
        words["onebit-semantics"] = run.semantics
    command = [*options.mpiexec.split(), "-n", options.ranks, options.build / "dsc-run"]
    for key, value in words.items():
        command += [f"--{key}", value]
    machine = {"HWLOC_SYNTHETIC": f"[numa(memory=64GB)] core:{options.threads * options.ranks} pu:1"}
    subprocess.run([str(word) for word in command], env=os.environ | machine, stdout=out, stderr=out, check=True)


def held_out_loss(options, run, checkpoint, out):
    step, log = int(checkpoint.name[5:]), path_of(options, run, ".held-out")
    launch(options, run, out, scheduler="constant", lr=0, steps=step + 1, resume=checkpoint, log=log,
           eval_data=options.out / "valid.bin", global_batch=HELD_OUT)
    loss = json.loads(log.read_text().splitlines()[-1])["eval_loss"]
    log.unlink()
    return {"step": step, "eval_loss": loss}


def train(options, run):
    """The training, then the checkpoints that no earlier call has evaluated."""
    folder, points = path_of(options, run, ""), path_of(options, run, ".eval.jsonl")
    with path_of(options, run, ".out").open("a") as out:
        launch(options, run, out, steps=options.steps, save=folder, save_every=options.steps // POINTS, resume="auto",
               log=path_of(options, run, ".jsonl"))
        done = [row["step"] for row in plot.rows_of(points)] if points.exists() else []
        checkpoints = sorted(folder.glob("step-*"))
        for checkpoint in checkpoints:
            step = int(checkpoint.name[5:])
            if step % (options.steps // POINTS) == 0 and step not in done:  # others are of calls that were stopped
                with points.open("a") as file:
                    file.write(json.dumps(held_out_loss(options, run, checkpoint, out)) + "\n")
            if checkpoint != checkpoints[-1]:
                shutil.rmtree(checkpoint)
    print(f"{folder.name}: done", flush=True)


def report(options, runs):
    """Final held-out losses by seed, and what the ranks have sent."""
    loss, sent = collections.defaultdict(dict), {}
    for run in runs:
        points = plot.rows_of(path_of(options, run, ".eval.jsonl"))
        loss[name_of(run)][run.seed] = max(points, key=lambda row: row["step"])["eval_loss"]
        sent[name_of(run)] = sum(row["wire_bytes"] for row in plot.rows_of(path_of(options, run, ".jsonl")))
    first = next(iter(loss))
    print(f"optimizer              seed  held-out loss  to {first}")
    for name, by_seed in loss.items():
        for seed, value in by_seed.items():
            print(f"{name:22} {seed:4}  {value:13.5f}  {100 * (value / loss[first][seed] - 1):+.3f} %")
        mean, base = statistics.mean(by_seed.values()), statistics.mean(loss[first].values())
        print(f"{name:22} mean  {mean:13.5f}  {100 * (mean / base - 1):+.3f} %; {sent[name] / 1e9:.2f} GB sent")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--build", type=pathlib.Path, required=True)
    parser.add_argument("--text", type=pathlib.Path, required=True)
    parser.add_argument("--optimizers", default="adam,onebit-adam",
                        help="OPTIMIZER[:SEMANTICS],...; the others are compared with the first (adam,onebit-adam)")
    parser.add_argument("--seeds", default="1,2,3")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--lr", type=float, default=1.5e-3)
    parser.add_argument("--clip", type=float, default=0)
    parser.add_argument("--set", action="append", default=[], metavar="OPTION=VALUE",
                        help="another option of dsc-run's, as beta2=0.95")
    parser.add_argument("--ranks", type=int, default=4)
    parser.add_argument("--threads", type=int, default=1, help="of a rank (1)")
    parser.add_argument("--jobs", type=int, default=1, help="runs side by side (1)")
    parser.add_argument("--mpiexec", default="mpiexec")
    options = parser.parse_args()
    if options.steps < max(POINTS, plot.SMOOTH):
        parser.error(f"--steps {options.steps}: at least {max(POINTS, plot.SMOOTH)}")
    options.build = options.build.resolve()
    options.out.mkdir(parents=True, exist_ok=True)
    write_data(options)
    runs = [Run(*(word.split(":") + [""])[:2], int(seed)) for seed in options.seeds.split(",")
            for word in options.optimizers.split(",")]
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        for future in [pool.submit(train, options, run) for run in runs]:
            future.result()
    plot.write_runs(options.out, options.out / "learning")
    report(options, runs)


if __name__ == "__main__":
    main()
