#!/usr/bin/env bash
# llama_cpp.sh MODEL.gguf [TEXT_OR_IDS]: builds llama-cpp-python from PyPI under build/llama_cpp (some ten minutes, once), then
# opens the file in llama.cpp and in sonde and compares the logits of the same ids. Exit 1 if they differ by more than
# quantised activations explain.
set -euo pipefail
home=$(cd "$(dirname "$0")/.." && pwd)
model=${1:?usage: llama_cpp.sh MODEL.gguf [1,2,3]}
folder=$home/build/llama_cpp
if [[ ! -e $folder/.done ]]; then
  rm -rf "$folder"
  python3 -m venv "$folder" >&2
  CMAKE_BUILD_PARALLEL_LEVEL=$(nproc) "$folder/bin/pip" install -q numpy safetensors llama-cpp-python >&2
  touch "$folder/.done"
fi
exec "$folder/bin/python" "$home/tools/compare_llama_cpp.py" "$home/build/release/sonde" "$model" "${2:-1,5,9,14,200,33,7,7,42,100}"
