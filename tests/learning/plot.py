#!/usr/bin/python3
"""Curves of run.py's and onebit.py's logs, as SVG and as the table that they are drawn from.

    plot.py text TEXT-OUT -o doc/sparse/learning-text          held-out loss by steps
    plot.py recall RECALL-OUT -o doc/sparse/learning-recall    share of the letters that are recalled, by steps
    plot.py onebit ONEBIT-OUT -o doc/onebit/learning           training and held-out loss, each seed a curve, and how
                                                               far they are from Adam's with the same seed
"""
import argparse
import csv
import json
import pathlib
import statistics

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 720, 400, 60, 20, 20, 45
COLOURS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7"]
KINDS = {"text": ("*.jsonl", "eval_loss", "held-out loss, nats a byte", 2.0, 3.0),
         "recall": ("*.recall.jsonl", "exact", "share of letters recalled", 0.0, 1.0)}
SMOOTH = 50         # steps over which onebit averages training losses
SHOWN = (1.0, 3.0)  # its losses
APART = 2.0         # and their distance from Adam's, in %, either way


def rows_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def read(folder, pattern, key):
    """{name: [(step, value)]}, without the step at learning rate 0 that evaluates all."""
    curves = {}
    for path in sorted(folder.glob(pattern)):
        name, *rest = path.name.split(".")
        rows = rows_of(path)
        if rest[0] != "final":
            curves[name] = [(row["step"], row[key]) for row in rows if key in row and row["step"] % 10 == 0]
    return curves


def ticks(low, high):
    """About five round numbers."""
    step = next(s * 10.0**e for e in range(-4, 8) for s in (1, 2, 5) if (high - low) / (s * 10.0**e) <= 6)
    return [step * i for i in range(round(low / step - 0.499), round(high / step + 0.499) + 1) if low <= step * i <= high]


def head(height):
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" '
            'font-size="13">\n'
            f'<rect width="{WIDTH}" height="{height}" fill="white"/>')


def frame(last, low, high, label, top=0):
    """Scales of steps 0 .. last and values low .. high, and their grid in a panel of HEIGHT below top."""
    x = lambda step: LEFT + (WIDTH - LEFT - RIGHT) * step / last
    y = lambda v: top + TOP + (HEIGHT - TOP - BOTTOM) * (high - max(low, min(v, high))) / (high - low)
    out = []
    for v in ticks(low, high):
        out.append(f'<path d="M{LEFT} {y(v):.1f}H{WIDTH - RIGHT}" stroke="#ddd"/>'
                   f'<text x="{LEFT - 6}" y="{y(v) + 4:.1f}" text-anchor="end">{v:g}</text>')
    for step in ticks(0, last):
        out.append(f'<text x="{x(step):.1f}" y="{top + HEIGHT - BOTTOM + 18}" text-anchor="middle">{step:g}</text>')
    out.append(f'<text x="{WIDTH / 2}" y="{top + HEIGHT - 8}" text-anchor="middle">steps</text>'
               f'<text transform="translate(15 {top + HEIGHT / 2}) rotate(-90)" text-anchor="middle">{label}</text>')
    return x, y, out


def draw(curves, label, low, high):
    """Values above high, a loss's first steep part, are drawn there."""
    points = [point for curve in curves.values() for point in curve]
    last = max(step for step, _ in points)
    low = min(low, *(v for _, v in points))
    x, y, out = frame(last, low, high, label)
    out.insert(0, head(HEIGHT))
    for i, (name, curve) in enumerate(curves.items()):
        path = "L".join(f"{x(step):.1f} {y(v):.1f}" for step, v in curve)
        out.append(f'<path d="M{path}" fill="none" stroke="{COLOURS[i]}" stroke-width="1.5"/>'
                   f'<text x="{WIDTH - RIGHT - 10}" y="{TOP + 60 + 18 * i}" text-anchor="end" fill="{COLOURS[i]}">{name}</text>')
    return "\n".join(out + ["</svg>\n"])


def read_runs(folder):
    """({run: [(step, training loss)]}, {run: [(step, held-out loss)]}); a run is (optimizer, seed), Adam's first."""
    training, held_out = {}, {}
    for path in sorted(folder.glob("*.eval.jsonl")):
        optimizer, seed = path.name.split(".")[:2]
        losses = [row["loss"] for row in rows_of(folder / f"{optimizer}.{seed}.jsonl")]
        training[optimizer, seed] = [(end, round(statistics.mean(losses[end - SMOOTH:end]), 6))
                                     for end in range(SMOOTH, len(losses) + 1, SMOOTH)]
        held_out[optimizer, seed] = sorted((row["step"], row["eval_loss"]) for row in rows_of(path))
    return training, held_out


def apart(curves):
    """Each run's distance in % from the first optimizer's with the same seed, at steps that both have."""
    first = next(iter(curves))[0]
    base = {run: dict(curves[first, run[1]]) for run in curves if run[0] != first and (first, run[1]) in curves}
    return {run: [(step, 100 * (v / of_first[step] - 1)) for step, v in curves[run] if step in of_first]
            for run, of_first in base.items()}


def draw_runs(training, held_out):
    """Training losses as lines, held-out losses as circles; below, how far both are from the first optimizer's."""
    names = list(dict.fromkeys(optimizer for optimizer, _ in training))
    last = max(step for curve in training.values() for step, _ in curve)
    out = [head(2 * HEIGHT)]
    low = min(SHOWN[0], *(v for curve in [*training.values(), *held_out.values()] for _, v in curve))
    lowest = min(-APART, *(v for curve in apart(training).values() for _, v in curve))
    panels = [(training, held_out, low, SHOWN[1], "loss, nats a byte"),
              (apart(training), apart(held_out), lowest, APART, f"% above {names[0]}'s, same seed")]
    for i, (lines, circles, low, high, label) in enumerate(panels):
        x, y, grid = frame(last, low, high, label, i * HEIGHT)
        out += grid
        for (name, _), curve in lines.items():
            path = "L".join(f"{x(step):.1f} {y(v):.1f}" for step, v in curve)
            out.append(f'<path d="M{path}" fill="none" stroke="{COLOURS[names.index(name)]}" stroke-width="0.8"/>')
        for (name, _), curve in circles.items():
            out += [f'<circle cx="{x(step):.1f}" cy="{y(v):.1f}" r="3.5" fill="none" '
                    f'stroke="{COLOURS[names.index(name)]}"/>' for step, v in curve]
    for i, name in enumerate(names):
        out.append(f'<text x="{WIDTH - RIGHT - 10}" y="{TOP + 60 + 18 * i}" text-anchor="end" '
                   f'fill="{COLOURS[i]}">{name}</text>')
    out.append(f'<text x="{WIDTH - RIGHT - 10}" y="{TOP + 40}" text-anchor="end">lines: training, mean of '
               f'{SMOOTH} steps; circles: held out</text>')
    return "\n".join(out + ["</svg>\n"])


def write_table(path, curves):
    with open(path, "w", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["step", *(name if isinstance(name, str) else ".".join(name) for name in curves)])
        for step in sorted({step for curve in curves.values() for step, _ in curve}):
            table.writerow([step, *(dict(curve).get(step, "") for curve in curves.values())])


def write_runs(folder, output):
    training, held_out = read_runs(folder)
    pathlib.Path(f"{output}.svg").write_text(draw_runs(training, held_out))
    write_table(f"{output}.csv", training)
    write_table(f"{output}-held-out.csv", held_out)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=[*KINDS, "onebit"])
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("-o", "--output", required=True)
    options = parser.parse_args()
    if options.kind == "onebit":
        write_runs(options.folder, options.output)
        return
    pattern, key, *scale = KINDS[options.kind]
    curves = read(options.folder, pattern, key)
    pathlib.Path(options.output + ".svg").write_text(draw(curves, *scale))
    write_table(options.output + ".csv", curves)


if __name__ == "__main__":
    main()
