#!/usr/bin/python3
"""Curves of run.py's logs, as SVG and as the table that they are drawn from.

    plot.py text TEXT-OUT -o doc/sparse/learning-text          writes doc/sparse/learning-text.svg and .csv: held-out loss by steps
    plot.py recall RECALL-OUT -o doc/sparse/learning-recall    share of the letters that are recalled, by steps
"""
import argparse
import csv
import json
import pathlib

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 720, 400, 60, 20, 20, 45
COLOURS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7"]
KINDS = {"text": ("*.jsonl", "eval_loss", "held-out loss, nats a byte", 2.0, 3.0),
         "recall": ("*.recall.jsonl", "exact", "share of letters recalled", 0.0, 1.0)}


def read(folder, pattern, key):
    """{name: [(step, value)]}, without the step at learning rate 0 that evaluates all."""
    curves = {}
    for path in sorted(folder.glob(pattern)):
        name, *rest = path.name.split(".")
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        if rest[0] != "final":
            curves[name] = [(row["step"], row[key]) for row in rows if key in row and row["step"] % 10 == 0]
    return curves


def ticks(low, high):
    """About five round numbers."""
    step = next(s * 10.0**e for e in range(-4, 8) for s in (1, 2, 5) if (high - low) / (s * 10.0**e) <= 6)
    return [step * i for i in range(round(low / step - 0.499), round(high / step + 0.499) + 1) if low <= step * i <= high]


def draw(curves, label, low, high):
    """Values above high, a loss's first steep part, are drawn there."""
    points = [point for curve in curves.values() for point in curve]
    last = max(step for step, _ in points)
    low = min(low, *(v for _, v in points))
    x = lambda step: LEFT + (WIDTH - LEFT - RIGHT) * step / last
    y = lambda v: TOP + (HEIGHT - TOP - BOTTOM) * (high - min(v, high)) / (high - low)
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" '
           'font-size="13">',
           f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>']
    for v in ticks(low, high):
        out.append(f'<path d="M{LEFT} {y(v):.1f}H{WIDTH - RIGHT}" stroke="#ddd"/>'
                   f'<text x="{LEFT - 6}" y="{y(v) + 4:.1f}" text-anchor="end">{v:g}</text>')
    for step in ticks(0, last):
        out.append(f'<text x="{x(step):.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{step:g}</text>')
    out.append(f'<text x="{WIDTH / 2}" y="{HEIGHT - 8}" text-anchor="middle">steps</text>'
               f'<text transform="translate(15 {HEIGHT / 2}) rotate(-90)" text-anchor="middle">{label}</text>')
    for i, (name, curve) in enumerate(curves.items()):
        path = "L".join(f"{x(step):.1f} {y(v):.1f}" for step, v in curve)
        out.append(f'<path d="M{path}" fill="none" stroke="{COLOURS[i]}" stroke-width="1.5"/>'
                   f'<text x="{WIDTH - RIGHT - 10}" y="{TOP + 60 + 18 * i}" text-anchor="end" fill="{COLOURS[i]}">{name}</text>')
    return "\n".join(out + ["</svg>\n"])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("-o", "--output", required=True)
    options = parser.parse_args()
    pattern, key, *scale = KINDS[options.kind]
    curves = read(options.folder, pattern, key)
    pathlib.Path(options.output + ".svg").write_text(draw(curves, *scale))
    with open(options.output + ".csv", "w", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["step", *curves])
        for step in sorted({step for curve in curves.values() for step, _ in curve}):
            table.writerow([step, *(dict(curve).get(step, "") for curve in curves.values())])


if __name__ == "__main__":
    main()
