"""The tokenizer: ids where the models expect them, and no text that turns into a special token."""

import codecs
import hashlib
import json
import subprocess
import sys
import unicodedata

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from places import EXAMPLES

from acestep.text.prompts import LYRIC_LIMIT, encoder_ids, lyric_prompt, phase1_prompt
from acestep.text.tokenizer import (
    CODE_SLOTS,
    CODES,
    ENDOFTEXT,
    FIRST_CODE,
    IM_END,
    IM_START,
    LM_VOCAB,
    NEWLINE,
    SPACE,
    SPECIAL_TOKENS,
    TEXT_VOCAB,
    THINK,
    THINK_END,
    Tokenizer,
    code_name,
)
from acestep.weights.synthetic_tokenizer import DATA, learn_merges, synthetic_tokenizer, tokenizer_files
from harness.errors import CheckpointError, UsageError

REQUESTS = sorted((EXAMPLES / "text2music").glob("*.json"))
LETTERS = "ab é夜の♭\n\t 019:'<|>/_😀"
# Words a user might try, pieces of them, and anything else.
user_text = st.lists(
    st.one_of(
        st.sampled_from(
            [*SPECIAL_TOKENS, code_name(0), code_name(CODES - 1), "<|", "|>", "<", "audio_code_"]
        ),
        st.text(LETTERS),
        st.text(st.characters(exclude_categories=("Cs", "Cn")), max_size=20),
    ),
    max_size=8,
).map("".join)


@pytest.fixture(scope="module", params=["lm", "text"])
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def folder(kind, tmp_path_factory):
    return write_files(kind, tmp_path_factory.mktemp(kind))


def write_files(kind, path):
    for name, content in tokenizer_files(kind).items():
        (path / name).write_bytes(content)
    return path


@pytest.fixture(scope="module")
def tokenizer():
    return synthetic_tokenizer("lm")


def test_ids_are_those_of_the_specification(tokenizer):
    assert (ENDOFTEXT, IM_START, IM_END, THINK, THINK_END) == (151643, 151644, 151645, 151667, 151668)
    assert (FIRST_CODE, TEXT_VOCAB, LM_VOCAB) == (151669, 151669, 217204)
    assert FIRST_CODE + CODES - 1 == 215668
    assert [SPECIAL_TOKENS[i - ENDOFTEXT] for i in (IM_END, THINK, THINK_END)] == [
        "<|im_end|>",
        "<think>",
        "</think>",
    ]
    assert ENDOFTEXT + len(SPECIAL_TOKENS) == FIRST_CODE
    assert tokenizer.encode("\n") == [NEWLINE]
    assert tokenizer.encode("bpm: 120\n")[-5:] == [SPACE, 16, 17, 15, NEWLINE]


@settings(deadline=None)
@given(user_text)
def test_text_is_never_a_special_token_and_comes_back(text):
    tokenizer = synthetic_tokenizer("lm")
    ids = tokenizer.encode(text)
    assert all(id_ < ENDOFTEXT for id_ in ids)
    assert tokenizer.decode(ids) == unicodedata.normalize("NFC", text)


@settings(deadline=None)
@given(user_text, st.integers(0, 40))
def test_a_truncated_text_is_a_beginning_of_so_many_tokens(text, tokens):
    tokenizer = synthetic_tokenizer("lm")
    cut = tokenizer.truncate(text, tokens)
    assert text.startswith(cut)
    assert len(tokenizer.encode(cut)) <= tokens
    if len(tokenizer.encode(text)) <= tokens:
        assert cut == text


def test_truncation_keeps_all_it_can(tokenizer):
    assert tokenizer.truncate("8" * 100, 7) == "8" * 7
    one = len(tokenizer.encode("😀"))
    assert tokenizer.truncate("😀😀", one) == "😀" == tokenizer.truncate("😀😀", 2 * one - 1)


def test_the_library_alone_does_let_text_become_special():
    """The control: what `encode` defends against happens, with the library's own switch set too."""
    backend = tokenizers.Tokenizer.from_str(tokenizer_files("text")["tokenizer.json"].decode())
    assert THINK in backend.encode("a<think>").ids
    backend.encode_special_tokens = True
    assert THINK in backend.encode("a<think>").ids
    assert THINK not in Tokenizer(backend).encode("a<think>")


@settings(deadline=None)
@given(user_text, user_text, st.data())
def test_a_prompt_does_not_depend_on_how_its_text_is_split(first, second, data):
    tokenizer = synthetic_tokenizer("lm")
    cut = data.draw(st.integers(0, len(first)))
    whole = [IM_START, *tokenizer.encode(first), IM_END, *tokenizer.encode(second)]
    assert tokenizer.encode_prompt([IM_START, first[:cut], first[cut:], IM_END, second]) == whole


def test_decode_names_special_tokens_and_codes(tokenizer):
    ids = [IM_START, *tokenizer.encode("夜 1"), FIRST_CODE + 7, THINK_END]
    assert tokenizer.decode(ids) == "<|im_start|>夜 1<|audio_code_7|></think>"
    assert [tokenizer.token_text(id_) for id_ in (ENDOFTEXT, SPACE)] == ["<|endoftext|>", " "]
    assert tokenizer.token_text(tokenizer.encode("\x00")[0]) == "\x00"
    assert tokenizer.decode(tokenizer.encode("夜")[:1] + tokenizer.encode("\n")).endswith("\n")


def test_lone_surrogates_are_refused_in_one_line(tokenizer):
    with pytest.raises(UsageError, match=r"^text 'a\\ud800': not valid Unicode"):
        tokenizer.encode("a\ud800")


def test_folder_gives_the_same_tokenizer_as_memory(folder, kind, tokenizer):
    loaded = Tokenizer.from_folder(folder, audio_codes=kind == "lm")
    for path in REQUESTS:
        text = path.read_text(encoding="utf-8")
        assert loaded.encode(text) == tokenizer.encode(text)
    for id_ in range(0, LM_VOCAB, 97):
        assert loaded.token_text(id_) == tokenizer.token_text(id_)


def test_every_id_has_a_token(folder, kind):
    backend = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    assert sorted(backend.get_vocab().values()) == list(range(LM_VOCAB if kind == "lm" else TEXT_VOCAB))
    if kind == "lm":
        assert backend.token_to_id(code_name(CODE_SLOTS - 1)) == LM_VOCAB - 1


def test_files_are_the_same_bytes_in_every_process(kind):
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in tokenizer_files(kind).items()}
    program = (
        "import hashlib; from acestep.weights.synthetic_tokenizer import tokenizer_files\n"
        f"for name, content in tokenizer_files({kind!r}).items():\n"
        "    print(name, hashlib.sha256(content).hexdigest())"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert dict(line.split() for line in result.stdout.splitlines()) == digests


def test_merges_are_what_the_corpus_gives():
    lines = (DATA / "merges.txt").read_text(encoding="utf-8").splitlines()
    assert lines == [f"{left} {right}" for left, right in learn_merges()]


@pytest.mark.parametrize("path", REQUESTS, ids=lambda path: path.stem)
def test_token_counts_of_the_examples_are_realistic(path, tokenizer):
    example = json.loads(path.read_text(encoding="utf-8"))
    assert 3 <= len(example["caption"]) / len(tokenizer.encode(example["caption"])) <= 6
    least = 0.66 if example["language"] in ("ja", "ko", "zh") else 1.2
    assert least <= len(example["lyrics"]) / len(tokenizer.encode(example["lyrics"])) <= 6


def test_missing_and_broken_files_are_named(tmp_path):
    path = tmp_path / "tokenizer.json"
    with pytest.raises(CheckpointError, match=r"tokenizer\.json: no such file") as caught:
        Tokenizer.from_folder(tmp_path)
    path.write_text("{}")
    with pytest.raises(CheckpointError, match=r"tokenizer\.json: not a tokenizer file") as caught_too:
        Tokenizer.from_folder(tmp_path)
    for error in (caught, caught_too):
        assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_a_misplaced_token_is_named(tmp_path):
    document = json.loads(tokenizer_files("text")["tokenizer.json"])
    tokens = document["added_tokens"]
    tokens[1]["content"], tokens[2]["content"] = tokens[2]["content"], tokens[1]["content"]
    (tmp_path / "tokenizer.json").write_text(json.dumps(document))
    with pytest.raises(CheckpointError, match=r"token '<\|im_start\|>' has id 151645, expected 151644"):
        Tokenizer.from_folder(tmp_path)


def test_a_byte_order_mark_is_no_part_of_a_tokenizer(tmp_path):
    write_files("text", tmp_path)
    path = tmp_path / "tokenizer.json"
    ids = Tokenizer.from_folder(tmp_path).encode("waltz")
    path.write_bytes(codecs.BOM_UTF8 + path.read_bytes())
    assert Tokenizer.from_folder(tmp_path).encode("waltz") == ids


SLOW = {"Regex": "(a+)+$"}  # the library panics at thirty letters and a full stop
FOREIGN = {
    "another model": (
        {"model": {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "b"}},
        "Invalid enum value 'WordLevel'",
    ),
    "chance": ({"dropout": 0.5}, "Expected `null`, got `float` - at `.*dropout`"),
    "a prefix": ({"continuing_subword_prefix": "##"}, "Invalid enum value '##'"),
    "a suffix": ({"end_of_word_suffix": "x" * 10**5}, "Invalid enum value 'xxx"),
    "ids of another": ({"vocab": {"a": 151_643}}, "Expected `int` < 151643|Expected `int` <= 151642"),
    "ids below zero": ({"vocab": {"a": -1}}, "Expected `int` >= 0"),
    "no bytes": ({}, "no token for the byte '!'"),
    "a slow pattern": (
        {"pre_tokenizer": {"type": "Split", "pattern": SLOW, "behavior": "Isolated", "invert": False}},
        r"pattern {'Regex': '\(a\+\)\+\$'} is not allowed; use Qwen3's",
    ),
    "a slow pattern within": (
        {"pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "Split", "pattern": SLOW}]}},
        "pattern .* is not allowed",
    ),
    "another step": (
        {"normalizer": {"type": "Replace", "pattern": SLOW, "content": "x"}},
        "step 'Replace' is not allowed; use NFC, Sequence, Split, ByteLevel",
    ),
    "a step that panics": ({"normalizer": {"type": "Precompiled"}}, "step 'Precompiled' is not allowed"),
}


@pytest.mark.parametrize("case", FOREIGN)
def test_a_tokenizer_of_another_kind_never_reaches_the_library(tmp_path, case, monkeypatch):
    change, message = FOREIGN[case]
    model = {"type": "BPE", "vocab": {}, "merges": []}
    of_model = not change.keys() & {"model", "normalizer", "pre_tokenizer"}
    document = {"model": model | change} if of_model else {"model": model} | change
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(document))
    with monkeypatch.context() as patch, pytest.raises(CheckpointError, match=message) as caught:
        if case != "no bytes":
            patch.setattr(tokenizers.Tokenizer, "from_str", lambda text: pytest.fail("it did"))
        Tokenizer.from_folder(tmp_path)
    assert str(caught.value).startswith(f"{path}: ") and len(str(caught.value)) < 400


def test_a_language_model_needs_its_audio_codes(tmp_path):
    write_files("text", tmp_path)
    Tokenizer.from_folder(tmp_path)
    with pytest.raises(CheckpointError, match=r"'<\|audio_code_0\|>' has id None, expected 151669"):
        Tokenizer.from_folder(tmp_path, audio_codes=True)


def test_transformers_reads_the_folder_and_agrees(folder, kind, tokenizer):
    transformers = pytest.importorskip("transformers")
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    parts = phase1_prompt("a slow song, bpm: 120", "[Verse]\n夜の街を\n\nLa la")
    prompt = "".join(part if isinstance(part, str) else tokenizer.token_text(part) for part in parts)
    ids = tokenizer.encode_prompt(parts)
    assert theirs(prompt, add_special_tokens=False)["input_ids"] == ids
    if kind == "lm":
        system, user = (prompt.split(head)[1].split("<|im_end|>")[0] for head in ("system\n", "user\n"))
        turns = [{"role": "system", "content": system}, {"role": "user", "content": user}]
        assert theirs.apply_chat_template(turns, tokenize=False, add_generation_prompt=True) == prompt
        assert theirs(prompt)["input_ids"] == ids
        assert theirs.convert_tokens_to_ids(code_name(CODES - 1)) == FIRST_CODE + CODES - 1
        assert theirs.eos_token_id == IM_END
        return
    # The text encoder's: one token appended, and it survives truncation.
    for lyrics in ("La la", "La la\n" * 2000):
        parts = lyric_prompt("en", lyrics)
        text = parts[0] + "<|endoftext|>"
        expected = theirs(text, truncation=True, max_length=LYRIC_LIMIT)["input_ids"]
        assert encoder_ids(tokenizer, parts, LYRIC_LIMIT) == expected
