#!/bin/bash
# dsc-plan --html: one page that loads nothing, is well formed, and shows the numbers of --json; what a browser makes of
# it is seen where Chromium is there.
. "${srcdir:-.}/tests/tap.sh"

build=$PWD
scratch=$(mktemp -d "${TMPDIR:-/tmp}/dsc-test-XXXXXX")
trap 'rm -rf "$scratch"' EXIT
cd "$scratch" || exit 3

small="--model gpt2 --cluster dgx-a100-80g:2 --tp 2 --pp 4 --dp 2 --global-batch 16 --precision bf16"
offload="--model gpt2-xl --cluster dgx-a100-80g --pp 2 --dp 4 --zero 3 --offload optimizer --global-batch 64
    --precision fp16"
large="--model gpt-1t --cluster dgx-a100-80g:384 --tp 8 --pp 64 --global-batch 3072 --precision bf16 --recompute full"

# What every check of a page needs: its elements as a tree (it is XML, but for what scripts hold), and its tables.
cat >page.py <<'END'
import re
import xml.etree.ElementTree as tree

def load(name):
    text = open(name, encoding="utf-8").read()
    scripts = re.findall(r"<script[^>]*>(.*?)</script>", text, re.S)
    bare = re.sub(r"(<script[^>]*>).*?(</script>)", r"\1\2", text, flags=re.S)
    assert bare.startswith("<!DOCTYPE html>\n"), bare[:40]
    return text, tree.fromstring(bare.split("\n", 1)[1]), scripts

def table(page, name):
    rows = page.find(f".//table[@id='{name}']").findall(".//tr")
    heads = ["".join(cell.itertext()) for cell in rows[0]]
    return [dict(zip(heads, map(value, row))) for row in rows[1:]]

def value(cell):
    data = cell.find(".//data")
    return "".join(cell.itertext()) if data is None else float(data.get("value"))
END

makes() { "$build/dsc-plan" "$@"; }

# checks FILE...: a program on standard input, with the files as its arguments
checks() { PYTHONPATH=$scratch /usr/bin/python3 - "$@"; }

is_well_formed() {
    makes $small --html small.html && makes $offload --html offload.html && checks small.html offload.html <<'END'
import sys
from html.parser import HTMLParser
from page import load

class Tags(HTMLParser):
    def __init__(self):
        super().__init__()
        self.open, self.ids = [], []
    def handle_starttag(self, tag, attributes):
        self.open.append(tag)
        self.ids += [v for k, v in attributes if k == "id"]
    def handle_startendtag(self, tag, attributes):
        assert tag in ("meta", "link", "br"), tag
    def handle_endtag(self, tag):
        assert self.open.pop() == tag, (tag, self.getpos())

for name in sys.argv[1:]:
    text, page, scripts = load(name)
    tags = Tags()
    tags.feed(text)
    tags.close()
    assert not tags.open and len(tags.ids) == len(set(tags.ids)) and len(scripts) == 2
    sections = [s.get("id") for s in page.findall(".//section")]
    assert sections == ["memory", "time", "pipeline", "placement"], sections
END
}

loads_nothing() {
    ! grep -nEi 'https?:|src *=|url\(|@import|fetch\(|XMLHttp|<(img|iframe|object|embed|base|form)' small.html &&
        [ "$(grep -c '<link' small.html)" -eq 1 ] && grep '<link rel="icon" href="data:,"/>' small.html &&
        grep "default-src 'none'" small.html
}

# equals_json FILE OPTION...
equals_json() {
    local name=$1
    shift
    makes "$@" --html "$name" --json >plan.json || return
    checks "$name" plan.json <<'END'
import json, sys
from page import load, table
text, page, _ = load(sys.argv[1])
plan = json.load(open(sys.argv[2]))
head = [float(d.get("value")) for d in page.findall(".//header//dd//data")]
for key in ("tokens_per_s", "tflops_per_gpu", "mfu", "wire_bytes_per_step"):
    assert any(abs(v - plan[key]) <= 1e-12 * abs(plan[key]) for v in head), key
assert plan["time"]["step_s"] in head
assert plan["program_hash"] in text and f"<b>{plan['stack']}</b>" in text
for space, memory in (("device", plan["memory"]), ("host", plan["host_memory"])):
    rows = table(page, "memory-" + space)
    worst = max(rows, key=lambda row: row["peak"])
    assert len(rows) == plan["strategy"]["pp"]
    for key, value in memory.items():
        assert key == "capacity_bytes" or worst[key[:-6]] == value, (space, key, worst)
    for row in rows:
        assert row["peak"] == sum(row[k[:-6]] for k in memory if k[:-6] not in ("capacity", "peak", "arena")), row
    assert memory["capacity_bytes"] - memory["peak_bytes"] in head
times = {row["component"]: row["time"] for row in table(page, "times")}
assert times == {key[:-2]: seconds for key, seconds in plan["time"].items()}, times
if "paths" in plan:
    assert [(r["path"], r["step"], r["on the wire"]) for r in table(page, "paths")] == \
        [(p["name"], p["step_s"], p["wire_bytes"]) for p in plan["paths"]]
keys = {"".join(d.find("dt").itertext()): "".join(d.find("dd").itertext())
        for d in page.findall(".//dl[@class='keys']/div")}
for key, value in plan["strategy"].items():
    assert keys[key] == (value if isinstance(value, str) else json.dumps(value)), key
END
}

# has_timeline FILE LEVEL: blocks of a lane follow each other within the step, and those of the compute lane are busy as
# long as the lane.
has_timeline() {
    checks "$@" <<'END'
import json, sys
from page import load, table
text, page, scripts = load(sys.argv[1])
data = json.loads(scripts[0])
assert data["level"] == sys.argv[2], data["level"]
step_s = {row["component"]: row["time"] for row in table(page, "times")}["step"]
busy = {row["row"]: row["computes"] for row in table(page, "busy")}
assert data["step_ns"] == round(step_s * 1e9) and len(busy) == len(data["rows"])
last = 0
for row in data["rows"]:
    for lane in row["lanes"]:
        blocks = [lane["blocks"][i:i + 6] for i in range(0, len(lane["blocks"]), 6)]
        assert all(len(b) == 6 and b[4] >= 0 and b[5] >= 0 and b[0] < len(data["kinds"]) for b in blocks)
        last = max(last, sum(b[4] + b[5] for b in blocks))
        total = sum(b[5 if data["level"] == "ops" else 1] for b in blocks)
        # a block hides no gap that shows
        assert data["level"] == "ops" or all(b[1] <= b[5] <= b[1] + data["step_ns"] / 50 for b in blocks), row["name"]
        assert lane["lane"] != 0 or total == round(1e9 * busy[row["name"]]), (row["name"], total)
assert last == data["step_ns"], (last, data["step_ns"])
END
}

# Every rank once, at its coordinates, by the order of ranks: tp, then dp, then pp.
shows_placement() {
    checks small.html <<'END'
import sys
from page import load, table
text, page, _ = load(sys.argv[1])
cells = [s.get("data-tip") for s in page.findall(".//div[@class='devices']/span")]
assert cells == [f"rank {r}, node {r // 8}, device {r % 8}: pp {r // 4} dp {r // 2 % 2} tp {r % 2} cp 0"
                 for r in range(16)], cells
assert len(page.findall(".//div[@class='node']")) == 2
over = {row["axis"]: row["neighbours meet over, at the farthest"] for row in table(page, "axes")}
assert over["tp"].startswith("nvswitch") and over["dp"].startswith("nvswitch") and over["pp"].startswith("fabric")
END
}

# Groups of data go over the context's ranks too; products in fp8 are held against its peak.
shows_context() {
    makes --model gpt2 --cluster dgx-h100:2 --cp 4 --precision fp8 --html context.html && checks context.html <<'END'
import sys
from page import load, table
text, page, _ = load(sys.argv[1])
rows = {row["axis"]: (row["ranks"], row["neighbours meet over, at the farthest"][:6]) for row in table(page, "axes")}
assert rows == {"cp": ("4", "nvswit"), "dp": ("16", "fabric")}, rows
assert "of the dense fp8 peak" in text
END
}

# Names that users give: a model's folder, links of a cluster, options in the command. Bytes that are no text, too.
escapes() {
    local folder
    folder=$(printf 'a\377<script>alert(1)<script>"\x27><img src=x onerror=alert(2)>&amp;')
    mkdir "$folder" && echo '{"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], "n_layer": 2, "n_embd": 64,
        "n_head": 4, "vocab_size": 256, "n_positions": 64}' >"$folder/config.json" &&
        makes --cluster dgx-a100-80g:2 --explain | sed 's/"fabric"/"<b onclick=x>"/; s/"nvswitch"/"\\"><u>"/' \
            >"$folder/c.json" &&
        makes --model "$folder" --cluster "$folder/c.json" --tp 2 --pp 2 --dp 4 --html evil.html || return
    checks evil.html <<'END'
import sys
from page import load
text, page, scripts = load(sys.argv[1])
tags = {e.tag for e in page.iter()}
assert len(scripts) == 2 and not tags & {"img", "u"}, tags
assert not [e for e in page.iter() if any(k.startswith("on") for k in e.attrib)]
name = "a\ufffd<script>alert(1)<script>\"'><img src=x onerror=alert(2)>&amp;"
assert page.find(".//title").text.startswith(name), page.find(".//title").text
assert name.replace("'", "'\\''") in page.find(".//header/pre").text
placement = "".join(page.find(".//section[@id='placement']").itertext())
assert "<b onclick=x>" in placement and '"><u>' in placement
END
}

# The command that the page shows, run by a shell, gives the same page.
repeats() {
    makes $small --html one.html && makes $small --html two.html && cmp one.html two.html &&
        makes --html=- $small >piped.html && cmp one.html piped.html &&
        makes $offload --eval-every 10 --html 'a b.html' &&
        checks 'a b.html' >command <<<'import sys, page
print(page.load(sys.argv[1])[1].find(".//header/pre").text)' &&
        PATH=$build:$PATH bash -c "$(cat command) --html c.html" && cmp 'a b.html' c.html
}

# refuses PATTERN OPTION...: one line, status 2, nothing on standard output
refuses() {
    local pattern=$1
    shift
    makes "$@" >stdout 2>stderr
    [ $? -eq 2 ] && [ ! -s stdout ] && [ "$(wc -l <stderr)" -eq 1 ] && grep -E "$pattern" stderr && return
    cat stderr
    return 1
}

# Before any work: the model would be refused later.
refuses_paths() {
    mkdir -p folder && echo kept >old.html && cp old.html was.html &&
        refuses 'no/folder/p\.html: cannot write' $small --model nowhere --html no/folder/p.html &&
        refuses 'folder: cannot write' $small --model nowhere --html folder &&
        refuses 'nowhere' $small --model nowhere --html old.html && cmp old.html was.html &&
        refuses 'nowhere' $small --model nowhere --html new.html && [ ! -e new.html ] &&
        refuses 'leave out --json' $small --html - --json && refuses 'longest-seq' $small --html p.html --longest-seq &&
        { makes $small --html /dev/full 2>stderr; [ $? -eq 3 ]; } && grep '/dev/full: cannot write' stderr
}

says_no() {
    makes --model gpt3-175b --cluster dgx-a100-80g --tp 8 --precision bf16 --html no.html 2>message
    [ $? -eq 1 ] && checks no.html message <<'END'
import sys
from page import load
verdict = "".join(load(sys.argv[1])[1].find(".//p[@class='verdict no']").itertext())
reason = open(sys.argv[2]).read().split("dsc-plan: ")[-1].strip()
assert verdict == "Does not fit. " + reason, (verdict, reason)
END
}

is_small_when_large() {
    local before=$SECONDS
    makes $large --html large.html && [ $((SECONDS - before)) -lt 60 ] && [ "$(wc -c <large.html)" -lt 5000000 ] &&
        grep 'ops are merged into .* blocks' large.html && grep 'And 320 nodes more' large.html &&
        has_timeline large.html passes
}

browser() {
    timeout 120 "$chromium" --headless --no-sandbox --disable-gpu --hide-scrollbars --user-data-dir="$scratch/browser" \
        --enable-logging=stderr --v=0 --virtual-time-budget=5000 "$@" 2>browser.log
}

# In the browser: the page counts its script's errors, zooms in, tells how many colours the timeline has, and what it
# says of the block under the pointer and of a part of a bar.
browses() {
    sed -e "s#<main>#<script>let bad = 0; onerror = () => { bad++; };</script><main>#" -e 's@</body>@<script>\
        const seen = () => document.getElementById("range").textContent, was = seen();\
        const press = act => document.querySelector(`[data-act=${act}]`).click();\
        const canvas = document.getElementById("timeline"), tip = document.getElementById("tip");\
        const point = (on, x, y) => {\
            const box = on.getBoundingClientRect();\
            on.dispatchEvent(new PointerEvent("pointermove",\
                { bubbles: true, clientX: box.left + x, clientY: box.top + y }));\
            return tip.hidden ? "nothing" : tip.textContent.replace(/\\n/g, ", ");\
        };\
        const bar = point(document.querySelector("#memory .parameters[data-tip]"), 1, 1);\
        press("in"), press("in"), press("right");\
        setTimeout(() => {\
            const data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;\
            const colours = new Set(new Uint32Array(data.buffer)).size;\
            document.title =\
                [`${bad} errors`, was, seen(), `${colours} colours`, bar, point(canvas, 400, 26)].join("; ");\
        }, 2000);</script></body>@' "$1" >opened.html &&
        browser --window-size=1400,2400 --dump-dom "file://$scratch/opened.html" >dom && ! grep CONSOLE browser.log &&
        checks dom <<'END'
import re, sys
title = re.search("<title>(.*)</title>", open(sys.argv[1]).read()).group(1)
errors, was, now, colours, bar, block = title.split("; ")
assert re.fullmatch(r"stage 0, parameters: [0-9.]+ [MG]iB, \d+ bytes", bar), bar
lane = r"stage 0 \(rank 0\), lane compute, "
assert re.match(lane + r"(\w+.*, micro-batch \d+.*, starts at .* takes |idle at )", block), block
assert errors == "0 errors" and int(colours.split()[0]) >= 8, title
assert re.fullmatch(r"0 ns to ([0-9.]+ \w+) of \1, \d+ (ops|blocks)", was), title
start, end, step = re.fullmatch(r"([0-9.]+) \w+ to ([0-9.]+) \w+ of ([0-9.]+) \w+, \d+ (?:ops|blocks)", now).groups()
assert abs(float(start) / float(step) - 7 / 16) < 0.01 and abs(float(end) / float(step) - 11 / 16) < 0.01, title
END
}

# Rows of a screenshot that are of one colour are far from all.
is_not_blank() { # FILE SIZE OPTION...
    browser "--window-size=$2" "${@:3}" --screenshot=shot.png "file://$scratch/$1" && ! grep CONSOLE browser.log &&
        checks shot.png <<'END'
import struct, sys, zlib
data, at, rows = open(sys.argv[1], "rb").read(), 8, b""
while at < len(data):
    length, kind = struct.unpack(">I4s", data[at:at + 8])
    if kind == b"IHDR": width, height, depth, form = struct.unpack(">IIBB", data[at + 8:at + 18])
    if kind == b"IDAT": rows += data[at + 8:at + 8 + length]
    at += 12 + length
rows, stride = zlib.decompress(rows), 1 + width * {2: 3, 6: 4}[form]
assert depth == 8 and len(rows) == height * stride
plain = sum(len(set(rows[y * stride + 1:(y + 1) * stride])) < 8 for y in range(height))
assert plain < 0.7 * height, (plain, height)
END
}

chromium=$(command -v chromium || command -v chromium-browser || command -v google-chrome)
plan 17
ok "a page is well formed, and has its sections" is_well_formed
ok "it loads nothing" loads_nothing
ok "its numbers are those of --json" equals_json small.html $small
ok "so they are with ZeRO, offload and skipped steps" equals_json offload.html $offload
ok "blocks of the timeline fill the step, and are as long as the compute lane is busy" has_timeline small.html ops
ok "lanes of copies and host are no other case" has_timeline offload.html ops
ok "each rank stands at its coordinates, and axes over their links" shows_placement
ok "sequences that are cut are placed, too, and fp8 has a peak of its own" shows_context
ok "names that users give are text, whatever is in them" escapes
ok "the same command gives the same bytes, wherever they go" repeats
ok "what cannot be written is refused before any work, and what is there stays" refuses_paths
ok "a page of what does not fit says why, with status 1" says_no
ok "a page of 3072 GPUs is small, and says what was merged" is_small_when_large
if [ -n "$chromium" ]; then
    ok "a browser draws the timeline, zooms it, and has no complaint" browses small.html
    ok "so it does with 3072 GPUs" browses large.html
    ok "a screenshot is not blank" is_not_blank small.html 1400,2400
    ok "nor in the dark on a narrow screen" is_not_blank offload.html 500,2400 --blink-settings=preferredColorScheme=0
else
    for claim in "a browser draws the timeline, zooms it, and has no complaint" "so it does with 3072 GPUs" \
        "a screenshot is not blank" "nor in the dark on a narrow screen"; do skip "$claim" "chromium is not there"; done
fi
