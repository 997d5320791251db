"""`sonde tokenize` and `detokenize` give the ids and the text of the tokenizers library, on texts made from a fixed seed."""
import json
import random

from tokenizers import Tokenizer

from common import ASSETS, MINI, check, json_lines, sonde

PIECES = ["the", " The", "don't", "I'LL", " 123", "1234567", "3.14159", "\n", "\n\n", "\r\n", "\t", "  ", "   ", "\u3000", "\u00a0", "\u2028", "\u200b",
          "中文", "数学，", "。", "日本語", "한국어", "привет", "مرحبا", "e\u0301", "\u00e9", "ﬁ", "Ⅷ", "½", "٣", "👩‍💻", "🇫🇷", "😀", "<|", "|>", "<think>",
          "</s>", "`", "```python\n", "    return x\n", "==", "!=", "//", "/*", "{\"a\": [1]}", "$x^2$", "\\frac", "_", "A", "z", "\x00", "\x7f", "\ufffd", "𝔸", "ß", "İ"]


def texts(count):
    dice = random.Random(20)
    for _ in range(count):
        kind = dice.random()
        if kind < 0.7:
            yield "".join(dice.choice(PIECES) for _ in range(dice.randint(1, 40)))
        else:
            points = [dice.choice([dice.randint(1, 0x7f), dice.randint(0x80, 0x7ff), dice.randint(0x800, 0xd7ff), dice.randint(0xe000, 0x323af)]) for _ in range(dice.randint(1, 30))]
            yield "".join(map(chr, points))


def compare(folder):
    theirs = Tokenizer.from_file(str(folder / "tokenizer.json"))
    wanted = list(texts(2000))
    lines = "".join(json.dumps({"text": text}) + "\n" for text in wanted)
    ours = json_lines(sonde("tokenize", folder, "--special", "--jsonl", "-", text=lines))
    check(len(ours) == len(wanted), f"{folder}: {len(ours)} lines for {len(wanted)}")
    for text, answer in zip(wanted, ours):
        ids = theirs.encode(text, add_special_tokens=False).ids
        check(answer.get("ids") == ids, f"{folder.name}: {text!r}\n ours   {answer}\n theirs {ids}")
    for text in wanted[:20]:
        ids = theirs.encode(text, add_special_tokens=False).ids
        said = json.loads(sonde("detokenize", folder, "--ids", ",".join(map(str, ids)), "--json"))
        check(bytes.fromhex(said["bytes_hex"]).decode() == theirs.decode(ids, skip_special_tokens=False), f"{folder.name}: decoding {ids}")
    print(f"{folder.name}: {len(wanted)} texts alike")


compare(MINI)
if ASSETS:
    for folder in sorted((ASSETS / "tokenizers").iterdir()):
        if (folder / "tokenizer.json").is_file():
            compare(folder)
