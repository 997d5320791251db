#!/usr/bin/env bash
# run.sh SCRIPT PROGRAM: runs a comparison with a Python implementation by the python that SONDE_ORACLES names. Without one
# the test is skipped (exit 77); under SONDE_CI it fails instead.
set -euo pipefail
script=$1 program=$2
if [[ -z ${SONDE_ORACLES:-} ]]; then
  echo "SONDE_ORACLES is not set; tools/oracles.sh makes such a python"
  if [[ -n ${SONDE_CI:-} ]]; then exit 1; fi
  exit 77
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
SONDE_CACHE="" PYTHONPATH=$(dirname "$script") PYTHONDONTWRITEBYTECODE=1 HF_HUB_OFFLINE=1 TRANSFORMERS_VERBOSITY=error TOKENIZERS_PARALLELISM=false \
  "$SONDE_ORACLES" -W ignore "$script" "$program"
