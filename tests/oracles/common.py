"""What the comparisons share: the program, the source tree, the real models where they are at hand."""
import json
import os
import pathlib
import subprocess
import sys

PROGRAM = sys.argv[1]
SOURCE = pathlib.Path(__file__).resolve().parents[2]
ASSETS = pathlib.Path(os.environ["SONDE_ASSETS"]) if os.environ.get("SONDE_ASSETS") else None
MINI = SOURCE / "models/mini"


def sonde(*arguments, text=None):
    """Standard output of the program; a failure ends the test with what it said."""
    done = subprocess.run([PROGRAM, *map(str, arguments)], input=text, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"sonde {' '.join(map(str, arguments))}: exit {done.returncode}\n{done.stderr}")
    return done.stdout


def check(condition, what):
    if not condition:
        sys.exit(f"FAILED: {what}")


def json_lines(text):
    return [json.loads(line) for line in text.splitlines()]
