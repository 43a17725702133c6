"""The answer of measured items, composed from the record."""

from msgspec.structs import replace

from harness.records.schema import AudioFacts, Item, Sample
from harness.records.verdict import of_rows, of_run, of_words, seconds, speed

EFFECTIVE = {"device_name": "A CPU", "device": "cpu", "dtype": "float32", "source": "synthetic-tiny"}
STAGES = {"diffuse": 8.733, "vae_decode": 3.0, "other": 0.567}
SONG = Item(
    key="a",
    mode="profile",
    requested={},
    effective=EFFECTIVE,
    status="ok",
    samples=(Sample(wall_s=12.3, stages_s=STAGES),),
    counts={"audio_s": 60.0},
    memory_bytes={"rss": 3 * 2**29},
    audio=AudioFacts(items=1, audio_s=60.0, peak=1.0, rms=0.1, silent=0),
    rtf=12.3 / 60,
)
WHERE = "A CPU (cpu, float32, synthetic-tiny)"


def test_a_run_is_as_long_as_it_took_beside_what_it_plays():
    assert of_run(SONG) == (
        f"60 s of music in 12.3 s on {WHERE}: 4.9 times faster than playing; 71% of it is diffuse."
        " At most 1.50 GiB of memory."
    )


def test_several_items_are_played_in_turn_and_a_card_is_what_the_driver_says():
    audio = AudioFacts(items=2, audio_s=10.0, peak=1.0, rms=0.1, silent=0)
    samples = (Sample(wall_s=40.0, stages_s={"lm_decode": 30.0, "other": 10.0}),)
    memory = {"allocated": 1, "reserved": 2**30, "driver": 2**31, "rss": 2**33}
    item = replace(SONG, audio=audio, samples=samples, counts={"audio_s": 10.0}, memory_bytes=memory)
    assert of_run(item, "speech") == (
        f"2 x 10 s of speech in 40 s on {WHERE}: 2 times slower than playing them in turn; 75% of it is"
        " lm_decode. At most 2.00 GiB of the card."
    )


def test_words_are_tokens():
    item = replace(
        SONG,
        mode="understand",
        samples=(Sample(wall_s=2.0, stages_s={"lm_prefill": 0.5, "lm_decode": 1.5}),),
        counts={"lm_decode_tokens": 300},
        memory_bytes={},
    )
    assert of_words(item) == f"understand in 2 s on {WHERE}: 300 tokens, 200 a second."


def test_rows_are_counted_by_what_became_of_them():
    fast = replace(SONG, rtf=0.01)
    failed, late = (replace(SONG, status=status, samples=(), rtf=None) for status in ("oom", "skip"))
    wrong = replace(SONG, status="invalid", rtf=2.0)
    assert of_rows([SONG, fast, failed, late, late, wrong]) == (
        f"2 of 6 rows measured on {WHERE}: a song is from 2 times slower to 100 times faster than playing;"
        " 1 failed; 2 left out; 1 wrong."
    )
    assert of_rows([failed], "inputs") == "0 of 1 inputs measured; 1 failed."


def test_figures_have_no_more_digits_than_they_are_good_for():
    assert [seconds(value) for value in (0.01234, 12.345, 999.4, 12345.6)] == [
        "0.0123 s", "12.3 s", "999 s", "12,346 s",
    ]  # fmt: skip
    assert [speed(value) for value in (1.0, 4.878, 123.4, 0.5)] == [
        "1 times faster", "4.9 times faster", "123 times faster", "2 times slower",
    ]  # fmt: skip
