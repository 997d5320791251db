"""Small tokenizers and their answers, for a clone without the large goldens.

python make_small.py MINI_TOKENIZER_JSON (tokenizers 0.23.3)

FILE.json is a tokenizer, FILE.small.jsonl has lines {text, ids, ids_special}: `ids` by a twin of the tokenizer from which
the added tokens were taken away, `ids_special` by the tokenizer as it is. mini.small.jsonl belongs to models/mini.
"""
import json
import os
import random
import sys
import tempfile

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

CORPUS = [
    "The cat sat on the mat, the other cats sat there as well; it's theirs, isn't it?",
    "A man, a plan, a canal: Panama. 12345 + 67890 = 80235\n\tindented line\n\n\nthree breaks",
    "Der süße Hund läuft über die Straße. Où est la bibliothèque ? Él habló ayer.",
    "今天天气很好，我们去公园散步吧。東京は日本の首都です。 안녕하세요 세계",
    "for (int i = 0; i < 10; ++i) { total += values[i]; }  // sum of all values",
]
TEXTS = [
    "", " ", "  ", "a", " a", "a ", "the cat", "The  cat\n sat", "it's IT'S it\u017f '\u017ft", "isn't\tit", "12345678 12 3",
    "\r\n\r\nx", "a\n\n b", "tab\there", "trailing   ", "s\u00fc\u00dfe Stra\u00dfe", "e\u0301te\u0301 \u212b \u2126 \uac00 \u1100\u1161",
    "\u4eca\u5929\u5929\u6c14\u5f88\u597d", "\u6771\u4eac \uc548\ub155", "\U0001f999 \U0001f468\u200d\U0001f469", "x\u0085y\u00a0z\u3000w\u180ev\u200bu\u001ct",
    "\u2581lower line", "x = y**2 + 3.14e-5", "<mark>", "a<mark>b", "a <mark> b", "  <left>  x", "x  <right>  y", "word", "words wordy word, word",
    "e\u0301nd", "\u00e9nd \u00e9nd", "<mark><mark>", "<mark", "<marker>", "\u00fc \u00fcber M\u00fcller", "\u0000\u0001\u007f", "\ufffd\ufeff",
    "\uff21\uff22 \u2167 \u00bd \u0661\u0662\u0663", "a" * 200, "ab" * 60 + " " * 50 + "c", "the" * 40,
    "<\uff5cUser\uff5c>hi<\uff5cAssistant\uff5c><think>\n", "<\uff5cbegin\u2581of\u2581sentence\uff5c>", "</think> x", "<<think>>",
]


def noise(seed):
    rng = random.Random(seed)
    pool = " \t\n\r\u0085\u00a0\u3000\u200b'sStTlLdD019.,-_<>|\u00e9e\u0301\u0327\u4e00\uac00\u0661\u00bd\u017f\U0001f999aAzZ"
    return ["".join(rng.choice(pool) for _ in range(rng.randrange(1, 30))) for _ in range(150)]


def write(name, tokenizer_json, special):
    """`special`: the added tokens count; the twin has none."""
    plain = json.loads(tokenizer_json)
    control = {token["content"] for token in plain["added_tokens"]}
    plain["added_tokens"] = []
    plain["model"]["vocab"] = {k: v for k, v in plain["model"]["vocab"].items() if k not in control or k == "<unk>"}
    used = set(plain["model"]["vocab"].values())
    for i in range(max(used)):  # the library wants no gaps: no text ever uses these names
        if i not in used:
            plain["model"]["vocab"]["\u0000gap%d" % i] = i
    plain = Tokenizer.from_str(json.dumps(plain))
    full = Tokenizer.from_str(tokenizer_json)
    with open(name + ".small.jsonl", "w") as out:
        for text in TEXTS + noise(7):
            record = {"text": text, "ids": plain.encode(text, add_special_tokens=False).ids}
            if special:
                record["ids_special"] = full.encode(text, add_special_tokens=False).ids
            out.write(json.dumps(record) + "\n")


def trained(tokenizer, trainer):
    tokenizer.train_from_iterator(CORPUS * 3, trainer)
    return tokenizer


def byte_level():
    """NFC, a published split, and added tokens with every flag."""
    t = Tokenizer(models.BPE())
    t.normalizer = normalizers.NFC()
    split = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
             r"|\s+(?!\S)|\s+")
    t.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(split), "isolated"),
                                               pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    t.decoder = decoders.ByteLevel()
    trained(t, trainers.BpeTrainer(vocab_size=400, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False))
    t.add_special_tokens([AddedToken("<mark>"), AddedToken("<left>", lstrip=True), AddedToken("<right>", rstrip=True)])
    t.add_tokens([AddedToken("word", single_word=True), AddedToken("\u00e9nd", normalized=True), AddedToken("<mark", normalized=False)])
    return t


def gpt2_style():
    """ByteLevel with its own split behind single digits; merges as the texts of older files."""
    t = Tokenizer(models.BPE())
    t.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True),
                                               pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)])
    t.decoder = decoders.ByteLevel()
    return trained(t, trainers.BpeTrainer(vocab_size=380, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False))


def character_level(bytes_too):
    """As converted from SentencePiece: U+2581 for spaces; unknown characters as bytes, or one <unk> for a run of them."""
    t = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=bytes_too))
    t.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    steps = [decoders.Replace("\u2581", " ")] + ([decoders.ByteFallback()] if bytes_too else []) + [decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    t.decoder = decoders.Sequence(steps)
    special = ["<unk>", "<s>", "</s>"] + (["<0x%02X>" % i for i in range(256)] if bytes_too else [])
    trained(t, trainers.BpeTrainer(vocab_size=len(special) + 150, special_tokens=special, limit_alphabet=60, show_progress=False))
    j = json.loads(t.to_str())
    j["added_tokens"] = j["added_tokens"][:3]  # byte pieces are not added tokens
    return Tokenizer.from_str(json.dumps(j))


def save(name, tokenizer, special, merges_as_text=False):
    j = json.loads(tokenizer.to_str())
    if merges_as_text:
        j["model"]["merges"] = [" ".join(pair) for pair in j["model"]["merges"]]
    text = json.dumps(j, ensure_ascii=False, separators=(",", ":"))
    with open(name + ".json", "w", encoding="utf-8") as out:
        out.write(text + "\n")
    write(name, text, special)


save("byte_level", byte_level(), True)
save("gpt2_style", gpt2_style(), True, merges_as_text=True)
save("characters", character_level(True), False)
save("characters_unk", character_level(False), False)
with open(sys.argv[1], encoding="utf-8") as file:
    write("mini", file.read(), True)
