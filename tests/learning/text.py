#!/usr/bin/python3
"""Makes one token file, llm.c's 16-bit .bin, of text: what onebit.py trains on.

    text.py OUT.bin [FILE...] [--rarest 1e-4]

FILEs are text, plain or compressed by gzip (.gz, .dz), concatenated in the order given. Without any it is the
dictionary of Debian's package dict-gcide, 40 MB: apt-get install dict-gcide.

A token is a byte, there are no merges. Bytes are numbered from 1 by falling frequency, and all that are rarer than
--rarest are token 0: so every row of the embedding is trained from the first steps on, and no row's second moment is
next to nothing. The same files give the same tokens.
"""
import argparse
import array
import collections
import gzip
import pathlib
import sys

GCIDE = pathlib.Path("/usr/share/dictd/gcide.dict.dz")
MAGIC, VERSION, HEADER_WORDS = 20240520, 1, 256


def read_text(path):
    return gzip.open(path).read() if path.suffix in (".gz", ".dz") else path.read_bytes()


def make_tokens(text, rarest):
    """(tokens, as bytes below 256; their number of kinds)"""
    counts = collections.Counter(text)
    frequent = sorted((b for b in counts if counts[b] >= rarest * len(text)), key=lambda b: (-counts[b], b))
    number = bytearray(256)
    for i, b in enumerate(frequent[:255]):
        number[b] = i + 1
    return text.translate(number), len(frequent) + 1


def write_tokens(path, tokens):
    words = array.array("I", [MAGIC, VERSION, len(tokens)] + [0] * (HEADER_WORDS - 3))
    data = array.array("H", iter(tokens))
    if sys.byteorder == "big":
        words.byteswap()
        data.byteswap()
    path.write_bytes(words.tobytes() + data.tobytes())


def read_tokens(path):
    """What write_tokens wrote."""
    data = path.read_bytes()
    if int.from_bytes(data[:4], "little") != MAGIC:
        sys.exit(f"{path}: not a token file of 16 bits; text.py makes one")
    tokens = array.array("H", data[4 * HEADER_WORDS:])
    if sys.byteorder == "big":
        tokens.byteswap()
    return tokens


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("files", type=pathlib.Path, nargs="*", metavar="FILE")
    parser.add_argument("--rarest", type=float, default=1e-4,
                        help="share of the text below which a byte is token 0 (1e-4)")
    options = parser.parse_args()
    missing = [str(path) for path in options.files or [GCIDE] if not path.exists()]
    if missing:
        sys.exit(f"{', '.join(missing)}: no such file" + ("" if options.files else "; apt-get install dict-gcide"))
    tokens, kinds = make_tokens(b"".join(map(read_text, options.files or [GCIDE])), options.rarest)
    write_tokens(options.out, tokens)
    rare = 100 * tokens.count(0) / len(tokens)
    print(f"{options.out}: {len(tokens)} tokens of {kinds} kinds; {rare:.3f} % were rare")


if __name__ == "__main__":
    main()
