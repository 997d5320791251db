"""compare_llama_cpp.py SONDE MODEL.gguf IDS: the logits of llama.cpp and of `sonde logits` side by side (see llama_cpp.sh)."""
import subprocess
import sys
import tempfile

import numpy
from llama_cpp import Llama
from safetensors.numpy import load_file

program, model, ids = sys.argv[1], sys.argv[2], [int(i) for i in sys.argv[3].split(",")]
theirs = Llama(model_path=model, n_ctx=max(64, len(ids)), n_batch=max(64, len(ids)), logits_all=True, verbose=False)
theirs.eval(ids)
theirs = numpy.array(theirs.scores[:len(ids)], dtype=numpy.float64)
with tempfile.TemporaryDirectory() as folder:
    subprocess.run([program, "logits", model, "--ids", sys.argv[3], "--out", f"{folder}/l.safetensors"], check=True)
    ours = load_file(f"{folder}/l.safetensors")["logits"].astype(numpy.float64)
if theirs.shape != ours.shape:
    sys.exit(f"shapes differ: {theirs.shape} and {ours.shape}")
error = abs(theirs - ours).max() / ours.std()
greedy = (theirs.argmax(1) == ours.argmax(1)).sum()
print(f"{model}: largest difference {error:.2e} of the spread, greedy tokens alike {greedy} of {len(ids)}")
# llama.cpp multiplies quantised weights by 8-bit activations: up to about a third of the spread on small models.
sys.exit(int(error > 0.5))
