#!/usr/bin/python3
"""How far predictions are from published measurements: runs dsc-plan --batch on each table and prints the errors.

    published.py [--build DIR] [--markdown] [FILE.csv...]     (default: data/*.csv beside this script; build folder: .)

A report, not a test: it fails when a file cannot be evaluated, whatever the errors are. Errors of step time are
|predicted - measured| / measured. Rows without a measured time count as rows only.
"""
import argparse
import csv
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent

# Mean / largest error of step time in %, of others on the same rows: Calculon, llm-analysis, and naive: FLOPs at 50 %
# of peak times (1 + (pp - 1) / (virtual stages x micro-batches)).
RIVALS = {
    "sc21_table1_megatron_a100": ("18.0 / 56.7", "46.5 / 137", "8.9 / 17.6"),
    "sc21_table2_zero3_vs_ptdp_a100": ("cannot", "70.5 / 129", "23.7 / 71.8"),
    "mtnlg_530b_a100": ("29.7 / 31.3", "76.0 / 80.7", "9.6 / 11.8"),
    "vtrain_multinode_a100": ("19.7 / 192", "17.8 / 55.8", "17.6 / 75.7"),
    "megatron_core_r08_h100": ("54.3 / 85.5", "71.1 / 119", "8.3 / 17.4"),
    "llmfoundry_a100": ("cannot", "18.5 / 58.6", "18.1 / 57.7"),
    "vtrain_singlenode_a100": ("38.9 / 86.6", "56.8 / 95.9", "53.2 / 97.9"),
}
HEAD = ("file", "rows", "evaluated", "time: mean", "largest", "bias", "memory: mean", "seconds", "Calculon",
        "llm-analysis", "naive")


def number(row, column):
    try:
        value = float(row.get(column) or "nan")
    except ValueError:
        return None
    return value if value > 0 else None


def errors(rows, predicted, measured):
    """(signed error in %, row) of each row that has both."""
    pairs = [(number(row, predicted), number(row, measured), row) for row in rows]
    return [(100 * (guess - truth) / truth, row) for guess, truth, row in pairs if guess and truth]


def evaluate(path, build, folder):
    out, start = folder / path.name, time.monotonic()
    subprocess.run([build / "dsc-plan", "--batch", path, "-o", out], check=True)
    with open(out, newline="", encoding="utf-8-sig") as file:
        return list(csv.DictReader(file)), time.monotonic() - start


def mean(values):
    return f"{statistics.mean(map(abs, values)):.1f}" if values else "-"


def summarize(name, rows, seconds, times):
    """One line of the table."""
    signed = [percent for percent, _ in times]
    memory = [percent for percent, _ in errors(rows, "predicted_memory_GB", "memory_GB")]
    return (name, str(len(rows)), str(sum(1 for row in rows if row["feasible"])), mean(signed),
            f"{max(map(abs, signed)):.1f}" if signed else "-", f"{statistics.mean(signed):+.1f}" if signed else "-",
            mean(memory), f"{seconds:.1f}", *RIVALS.get(name, ("", "", "")))


def print_table(table, markdown):
    widths = [max(len(line[i]) for line in table) for i in range(len(HEAD))]
    for i, line in enumerate(table):
        cells = [line[0].ljust(widths[0])] + [cell.rjust(width) for cell, width in zip(line[1:], widths[1:])]
        print("| " + " | ".join(cells) + " |" if markdown else "  ".join(cells).rstrip())
        if i == 0:
            rules = ["-" * width for width in widths]
            print("|" + "|".join(rule + ("--" if k == 0 else "-:") for k, rule in enumerate(rules)) + "|"
                  if markdown else "  ".join(rules))


def print_details(name, rows, times):
    """The three worst rows, those called infeasible though they ran, and why others were not evaluated."""
    print(f"\n{name}")
    for percent, row in sorted(times, key=lambda pair: -abs(pair[0]))[:3]:
        print(f"  {percent:+6.1f} %  {row['row_id']}: predicted {row['predicted_step_time_s']} s, "
              f"measured {row['step_time_s']} s")
    ran = [row for row in rows if row["feasible"] == "false" and number(row, "step_time_s")]
    if ran:
        print(f"  infeasible, though they ran: {len(ran)}, as {ran[0]['row_id']}: {ran[0]['reason']}")
    reasons = [row["reason"] for row in rows if not row["feasible"]]
    for reason in sorted(set(reasons)):
        print(f"  not evaluated: {reasons.count(reason)}: {reason}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", type=Path, nargs="*", metavar="FILE.csv")
    parser.add_argument("--build", type=Path, default=Path("."))
    parser.add_argument("--markdown", action="store_true", help="the table as Markdown")
    args = parser.parse_args()
    results = []
    with tempfile.TemporaryDirectory() as folder:
        for path in args.files or sorted(set((HERE / "data").glob("*.csv")) - set((HERE / "data").glob("feature_*"))):
            rows, seconds = evaluate(path, args.build.resolve(), Path(folder))
            results.append((path.stem, rows, seconds, errors(rows, "predicted_step_time_s", "step_time_s")))
    print_table([HEAD] + [summarize(*result) for result in results], args.markdown)
    every = [percent for *_, times in results for percent, _ in times]
    print(f"\n{len(every)} rows with a measured time: mean {mean(every)} %")
    for name, rows, _, times in results:
        print_details(name, rows, times)


if __name__ == "__main__":
    try:
        main()
    except subprocess.CalledProcessError as why:
        sys.exit(f"published.py: {why}")
