"""What `sonde convert` writes opens in transformers: the same logits as the checkpoint it came from, bit for bit, and
`sonde logits` within 2e-4 of their spread; the tokenizer gives the same ids."""
import pathlib

import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from common import ASSETS, MINI, SOURCE, check, sonde

IDS = [3, 17, 5, 99, 42, 7, 7, 250, 1, 64, 33, 12]


def logits_of(folder):
    model = AutoModelForCausalLM.from_pretrained(str(folder), dtype=torch.float32).eval()
    with torch.no_grad():
        return model(torch.tensor([IDS])).logits[0]


def compare(folder, name):
    gguf, back = pathlib.Path(f"{name}.gguf"), pathlib.Path(f"{name}.hf")
    sonde("convert", folder, "--to", "gguf", "--out", gguf)
    sonde("convert", gguf, "--to", "hf", "--out", back)
    original, converted = logits_of(folder), logits_of(back)
    check(torch.equal(original, converted), f"{name}: logits differ by {(original - converted).abs().max()} after conversion there and back")
    for path in (folder, gguf, back):
        sonde("logits", path, "--ids", ",".join(map(str, IDS)), "--out", "ours.safetensors")
        ours = load_file("ours.safetensors")["logits"]
        error = ((ours - original).abs().max() / original.std()).item()
        check(error < 2e-4, f"{name}: {path} is {error:.1e} of the spread away")
    if (folder / "tokenizer.json").is_file():
        # The file's own post-processor may be missing where its config asks for a BOS, so that is left out.
        text = "What is 37 * 48? 验算 don't\n\n  x"
        ids = [AutoTokenizer.from_pretrained(str(path))(text, add_special_tokens=False).input_ids for path in (folder, back)]
        check(ids[0] == ids[1], f"{name}: the tokenizer changed: {ids}")
    print(f"{name}: equal after conversion, sonde within {error:.1e} of the spread")


compare(MINI, "mini")
if ASSETS:
    compare(ASSETS / "models/stories260K/hf", "stories260K")
