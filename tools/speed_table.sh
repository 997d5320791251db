#!/usr/bin/env bash
# speed_table.sh: the README's table of speeds, measured here. Makes three files of random weights in the shape of
# R1-Distill-Qwen-1.5B under build/speed (6.6 GB, once); further models may be given as arguments.
set -euo pipefail
home=$(cd "$(dirname "$0")/.." && pwd)
folder=$home/build/speed
sonde=$home/build/release/sonde
mkdir -p "$folder"
models=("$home/models/mini" "$@")
for type in BF16 Q8_0 Q4_K_M; do
  file=$folder/r1-distill-qwen-1.5b.$type.gguf
  [[ -e $file ]] || "$sonde" synth r1-distill-qwen-1.5b --type "$type" --out "$file" >&2
  models+=("$file")
done
echo "| model | prefill 512, tokens/s | GFLOP/s (of peak) | decode, tokens/s | GB/s (of peak) | GFLOP/s (of peak) |"
echo "|---|---|---|---|---|---|"
for model in "${models[@]}"; do
  "$sonde" bench "$model" -p 512 -n 64 --json 2>/dev/null | python3 -c '
import json, os, sys
r = json.load(sys.stdin)
p, d = r["results"][:2]
def peak(row): return {"int8": "of_int8_peak", "bf16": "of_bf16_peak"}.get(row["arithmetic"], "of_fma_peak")
def of(row, rate, part): return f"{row[rate]:.1f} ({row[part]:.0%})"
name = os.path.basename(sys.argv[1])
def speed(row): return format(row["tokens_per_second"], ".4g")
print("|", name, "|", speed(p), "|", of(p, "gflop_per_second", peak(p)), "|", speed(d), "|",
      of(d, "gb_per_second", "of_dram_peak"), "|", of(d, "gflop_per_second", peak(d)), "|")
m, k = r["machine"], r["peaks"]
print(name + ":", m["cpu"], m["threads"], "threads,", m["kernels"], "kernels; peaks",
      round(k["dram_read_gb_per_second"]), "GB/s,", round(k["fma_gflop_per_second"]), "GFLOP/s", file=sys.stderr)
' "$model"
done
