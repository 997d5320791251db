#!/usr/bin/env bash
# oracles.sh: makes a Python environment under build/oracles with the published implementations that tests compare with
# (transformers on a CPU torch, tokenizers, openai), and prints its python. Slow once, then at once.
set -euo pipefail
home=$(cd "$(dirname "$0")/.." && pwd)
folder=$home/build/oracles
if [[ ! -e $folder/.done ]]; then
  rm -rf "$folder"
  python3 -m venv "$folder" >&2
  "$folder/bin/pip" install -q --disable-pip-version-check numpy safetensors tokenizers openai transformers torch >&2
  touch "$folder/.done"
fi
echo "$folder/bin/python"
