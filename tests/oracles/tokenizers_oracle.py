"""`sonde tokenize` and `detokenize` give the ids and the text of the tokenizers library, on texts made from a fixed seed."""
import json
import random
import unicodedata

from tokenizers import Tokenizer

from common import ASSETS, MINI, check, json_lines, sonde

PIECES = ["the", " The", "don't", "I'LL", " 123", "1234567", "3.14159", "\n", "\n\n", "\r\n", "\t", "  ", "   ", "\u3000", "\u00a0", "\u2028", "\u200b",
          "中文", "数学，", "。", "日本語", "한국어", "привет", "مرحبا", "e\u0301", "\u00e9", "ﬁ", "Ⅷ", "½", "٣", "👩‍💻", "🇫🇷", "😀", "<|", "|>", "<think>",
          "</s>", "`", "```python\n", "    return x\n", "==", "!=", "//", "/*", "{\"a\": [1]}", "$x^2$", "\\frac", "_", "A", "z", "\x00", "\x7f", "\ufffd", "𝔸", "ß", "İ"]

KNOWN = [c for c in map(chr, range(0x80, 0x32000)) if unicodedata.ucd_3_2_0.category(c) not in ("Cn", "Cs", "Co")]


def texts(count):
    dice = random.Random(20)
    for _ in range(count):
        kind = dice.random()
        if kind < 0.7:
            yield "".join(dice.choice(PIECES) for _ in range(dice.randint(1, 40)))
        else:
            # Only what every Unicode since 3.2 assigns: newer tables disagree about newer characters.
            points = [dice.choice(KNOWN) if dice.random() < 0.7 else chr(dice.randint(1, 0x7f)) for _ in range(dice.randint(1, 30))]
            yield "".join(points)


def compare(folder):
    theirs = Tokenizer.from_file(str(folder / "tokenizer.json"))
    wanted = list(texts(2000))
    lines = "".join(json.dumps({"text": text}) + "\n" for text in wanted)
    ours = json_lines(sonde("tokenize", folder, "--special", "--jsonl", "-", text=lines))
    check(len(ours) == len(wanted), f"{folder}: {len(ours)} lines for {len(wanted)}")
    for text, answer in zip(wanted, ours):
        ids = theirs.encode(text, add_special_tokens=False).ids
        check(answer.get("ids") == ids, f"{folder}: {text!r}\n ours   {answer}\n theirs {ids}")
    for text in wanted[:20]:
        ids = theirs.encode(text, add_special_tokens=False).ids
        said = json.loads(sonde("detokenize", folder, "--ids", ",".join(map(str, ids)), "--json"))
        check(bytes.fromhex(said["bytes_hex"]).decode() == theirs.decode(ids, skip_special_tokens=False), f"{folder}: decoding {ids}")
    print(f"{folder}: {len(wanted)} texts alike")


compare(MINI)
if ASSETS:
    for file in sorted((ASSETS / "tokenizers").rglob("tokenizer.json")):
        compare(file.parent)
