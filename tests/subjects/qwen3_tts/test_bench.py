"""The runner: a record and a table of each input, on what is here; what is not here is a row that says so."""

import json
import os
import subprocess
import sys
from hashlib import sha256

import pytest

from harness import accelerators
from harness.records.memory import Boundary, MemoryByStage
from harness.records.writer import load
from harness.tensor_files import stored_tensors
from subjects.qwen3_tts import tables, weights
from subjects.qwen3_tts.__main__ import FIXTURES as CHOICES
from subjects.qwen3_tts.__main__ import main
from subjects.qwen3_tts.bench import FIXTURES, NAMES, Fixture
from subjects.qwen3_tts.measure import Bench, merged
from subjects.qwen3_tts.subject import Qwen3TTS
from subjects.qwen3_tts.text import tokens
from subjects.qwen3_tts.weights import Networks

SHORT = ("--source", "synthetic-tiny", "--fixture", "short", "--duration", "0.16", "--threads", "1")


def test_inputs_are_the_files_whose_hashes_are_written_down():
    hashes = dict(line.split()[::-1] for line in (FIXTURES / "SHA256SUMS").read_text().splitlines())
    assert [*hashes] == [f"{name}.json" for name in NAMES] and NAMES == CHOICES
    for name, digest in hashes.items():
        assert sha256((FIXTURES / name).read_bytes()).hexdigest() == digest
    assert [Fixture.read(name).request.duration_s for name in NAMES] == [1.04, 5.04, 20.0]
    assert Fixture.read("short", seed=7, batch_size=None).source.changed == {"seed": 7}


def test_a_stream_is_recorded_and_shown(tmp_path, capsys):
    plan, record = tmp_path / "plan.json", tmp_path / "record.json"
    argv = ["bench", *SHORT, "--iterations", "2", "--streaming", "--chunk", "1", "--profile-memory"]
    argv += ["--device", "cpu", "cuda:7", "--json-output", str(plan), "--benchmark-output", str(record)]
    assert main(argv) == 0
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 80
    view = json.loads(plan.read_text())
    ran, absent = view["results"]
    assert ran["status"] == "ok" and ran["input"] == "short duration_s=0.16 chunk_frames=1"
    assert ran["stages"]["talker_ms"] == pytest.approx(
        ran["stages"]["talker_prefill_ms"] + ran["stages"]["talker_decode_ms"]
    )
    assert ran["stages"]["decoder_12hz_ms"] == ran["stages"]["decode_ms"] > 0
    assert ran["stages"]["code_predictor_ms"] > 0 and ran["time_to_first_chunk_ms"] > 0
    assert ran["realtime_factor"] > 0 and ran["tokens_per_second"] > 0 and ran["peak_memory_mb"] > 0
    assert absent["status"] == "skip" and "cuda:7 is not available here" in absent["error"]
    assert absent["wall_clock_ms"] is None  # and no zero
    header, (item, other) = load(record)
    assert header.subject == "qwen3_tts" and len(item.samples) == 2 and not other.samples
    typical = item.typical
    assert typical and typical.seconds(("other", *typical.stages_s)) >= typical.wall_s
    assert typical.stream.offline_error < 5e-5
    assert sum(typical.stream.first_chunk_stages_ms.values()) <= typical.stream.time_to_first_chunk_ms
    assert [one.stage for one in item.memory_by_stage.boundaries].count("code_predictor") == 1
    assert "n/a: device: cuda:7" in out and "first chunk after" in out
    rows, _, answer = out.partition("\n1 of 2 inputs measured on ")
    assert "memory at the end of each stage" in rows and "; 1 left out.\n\nshort: stages of" in answer


def test_what_is_named_twice_is_measured_once(tmp_path, monkeypatch, capsys):
    ran, item = [], Bench.item

    def counted(bench, plan, requested):
        ran.append((requested["input"], requested["device"], requested["dtype"]))
        return item(bench, plan, requested)

    monkeypatch.setattr(Bench, "item", counted)
    monkeypatch.setattr(accelerators, "_cuda", lambda index, environ: None)
    argv = ["bench", *SHORT, "--fixture", "short", "--iterations", "1", "--warmup", "0"]
    argv += ["--device", "cpu", "auto", "cpu", "--dtype", "fp32", "fp32", "bf16"]
    assert main([*argv, "--trace", str(tmp_path / "trace.json")]) == 0
    assert ran == [("short", "cpu", "fp32"), ("short", "cpu", "bf16")]
    assert capsys.readouterr().out.count("open it at ui.perfetto.dev") == 1


def test_a_setup_that_has_no_memory_is_a_row_and_the_next_is_measured(tmp_path, monkeypatch, capsys):
    roomy = Qwen3TTS.load

    def narrow(subject, setup, **named):
        if setup.dtype == "fp32":
            raise MemoryError("32 bits are too many")
        return roomy(subject, setup, **named)

    monkeypatch.setattr(Qwen3TTS, "load", narrow)
    record = tmp_path / "record.json"
    argv = [
        "bench",
        *SHORT,
        "--device",
        "cpu",
        "--dtype",
        "fp32",
        "bf16",
        "--iterations",
        "1",
        "--warmup",
        "0",
    ]
    assert main([*argv, "--benchmark-output", str(record)]) == 1
    _, (failed, ran) = load(record)
    assert (failed.status, ran.status) == ("host-oom", "ok") and "memory" in failed.error
    assert "host-oom" in capsys.readouterr().out
    monkeypatch.setattr(Qwen3TTS, "load", lambda *given, **named: 1 / 0)  # the control: a bug is one
    assert main(argv) == 4


@pytest.mark.parametrize(
    "end", [KeyboardInterrupt, OSError(28, "No space left on device")], ids=["^C", "full"]
)
def test_what_ends_the_run_takes_nothing_that_was_measured(tmp_path, capsys, monkeypatch, end):
    item = Bench.item

    def second_fails(bench, plan, requested):
        if requested["input"] == "medium":
            raise end
        return item(bench, plan, requested)

    monkeypatch.setattr(Bench, "item", second_fails)
    record = tmp_path / "record.json"
    argv = ["bench", *SHORT, "--fixture", "medium", "--device", "cpu", "--iterations", "1", "--warmup", "0"]
    assert main([*argv, "--benchmark-output", str(record)]) == (130 if end is KeyboardInterrupt else 1)
    _, (first,) = load(record)
    out = capsys.readouterr().out
    assert first.typical and f"{first.typical.wall_s:.3f}" in out
    assert tables.NOTE in out and "short: stages of the typical of 1 runs" in out


@pytest.mark.parametrize(
    ("argv", "code", "message"),
    [
        (["--device", "cuda:7"], 3, "cuda:7 is not available"),
        (["--duration", "0"], 2, "--duration: 0.0 is not allowed"),
        (["--chunk", "0"], 2, "--chunk: 0 is not allowed"),
        (["--iterations", "0"], 2, "--iterations: 0 is not allowed"),
        (["--warmup", "-1"], 2, "--warmup: -1 is not allowed"),
        (["--model", "3B"], 2, "invalid choice"),
        (
            ["--trace", "a.json", "--json-output", "./a.json"],
            2,
            "--trace: 'a.json' is the file of --json-plan",
        ),
    ],
)
def test_what_cannot_be_run_is_one_line(argv, code, message, capsys):
    assert main(["bench", "--source", "synthetic-tiny", *argv]) == code
    err = capsys.readouterr().err
    assert message in err and err.count("\n") == 1


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no full device here")  # noqa: PTH110
def test_a_full_disk_is_no_bug():
    command = [sys.executable, "-m", "subjects.qwen3_tts", "costs", "--list-cards"]
    with open("/dev/full", "w") as full:  # noqa: PTH123
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "qwen3_tts: [Errno 28] No space left on device\n")


def test_boundaries_of_a_stage_are_one_with_its_highest_peak():
    def boundary(stage: str, rss: int, peak: int) -> Boundary:
        return Boundary(stage=stage, rss_bytes=rss, rss_peak_bytes=peak, weights_bytes=1)

    ends = (boundary("start", 1, 1), boundary("a", 2, 9), boundary("b", 3, 3), boundary("a", 4, 5))
    found = merged(MemoryByStage(boundaries=ends, rss_source="VmHWM"))
    assert [(one.stage, one.rss_bytes, one.rss_peak_bytes) for one in found.boundaries] == [
        ("start", 1, 1),
        ("b", 3, 3),
        ("a", 4, 9),
    ]


def test_memory_below_the_weights_is_an_error(monkeypatch, capsys):
    monkeypatch.setattr(Networks, "weights_bytes", property(lambda networks: 2**50))
    assert (
        main(["bench", *SHORT, "--device", "cpu", "--iterations", "1", "--warmup", "0", "--profile-memory"])
        == 1
    )
    out = " ".join(capsys.readouterr().out.split())
    assert "is below the weights it ran with" in out and "short invalid: start: the RSS peak" in out


def test_time_to_the_first_chunk_is_split():
    stages = {"prompt": 1.0, "talker_prefill": 2.0, "sampling": 3.0, "code_predictor": 4.0, "decode": 5.0}
    assert tables.split(stages | {"other": 6.0}) == {"prefill": 3, "frames": 7, "decode": 5, "other": 6}


def test_speech_is_written_and_told(tmp_path, capsys):
    ids = tmp_path / "ids.json"
    ids.write_text("[5, 6, 7]")
    argv = ["generate", "--source", "synthetic-tiny", "--duration", "0.16", "--threads", "1"]
    assert main([*argv, "--text-ids", str(ids), "--out", str(tmp_path / "out")]) == 0
    assert (tmp_path / "out" / "42.wav").stat().st_size == 44 + 2 * 2 * 1920
    assert "x real time" in capsys.readouterr().out
    assert main(argv) == 2
    ids.write_text("{}")
    assert main([*argv, "--text-ids", str(ids)]) == 2
    assert "holds" in capsys.readouterr().err


def test_a_checkpoint_is_written_and_spoken_with(tmp_path, capsys):
    folder = tmp_path / "model"
    assert main(["write-checkpoint", "synthetic-tiny", str(folder), "--model", "1.7B-Base"]) == 0
    assert str(folder) in capsys.readouterr().out
    ids = tmp_path / "ids.json"
    ids.write_text("[5]")
    argv = ["generate", "--source", str(folder), "--text-ids", str(ids), "--duration", "0.08"]
    assert main([*argv, "--out", str(tmp_path / "out"), "--threads", "1"]) == 0
    assert main([*argv[:-2], "--model", "0.6B-Base"]) == 2
    assert "holds 1.7B-Base, not 0.6B-Base" in capsys.readouterr().err
    assert tokens(str(folder), "né") == tuple(
        json.loads((folder / "vocab.json").read_text())[c] for c in "nÃ©"
    )
    assert main(["bench", *SHORT[2:], "--source", str(folder), "--device", "cpu", "--iterations", "1"]) == 0
    spoilt = folder / "model.safetensors"
    (stored,) = (t for n, t in stored_tensors(folder, "model").items() if n.endswith("codec_head.weight"))
    with spoilt.open("r+b") as file:
        file.seek(stored.start)
        file.write(b"\xff\xff\xff\x7f")  # NaN
    capsys.readouterr()
    assert main([*argv, "--out", str(tmp_path / "none"), "--threads", "1"]) == 3
    err = capsys.readouterr().err.splitlines()[-1]
    assert "codec_head.weight has values that are not numbers; download it again" in err


def test_what_cannot_be_spoken_or_written_is_refused_before_torch_and_the_model(
    tmp_path, capsys, monkeypatch
):
    def load(*args, **named):
        raise AssertionError("loaded")

    monkeypatch.setattr(Qwen3TTS, "load", load)
    monkeypatch.setattr(weights, "write_weights", load)
    os.mkfifo(tmp_path / "pipe.wav")
    (tmp_path / "deep.json").write_text("[" * 100_000)
    (tmp_path / "file").write_text("somebody's")
    base = ["generate", "--source", "synthetic-tiny", "--model", "0.6B-Base", "--out", str(tmp_path)]
    for argv, code, message in (
        ([*base, "hi", "--threads", "0"], 2, "--threads: 0 is not allowed"),
        ([*base, "--text-ids", f"{tmp_path}/deep.json"], 2, "deep.json' is not JSON"),
        ([*base, "--text-ids", f"{tmp_path}/none.json"], 3, "--text-ids: "),
        ([*base, "hi", "--reference", f"{tmp_path}/pipe.wav"], 3, "--reference: "),
        ([*base, "hi", "--reference", f"{tmp_path}/none.wav"], 3, "--reference: "),
        ([*base[:-1], f"{tmp_path}/file", "hi"], 3, "--out: "),
        (["bench", *SHORT, "--chunk", "2"], 2, "--chunk: is of a stream; use it with --streaming"),
        (["bench", *SHORT, "--context", "25"], 2, "--context: is of a stream; use it with --streaming"),
        (["write-checkpoint", "synthetic-tiny", f"{tmp_path}/file"], 3, "cannot write the checkpoint"),
        (["write-checkpoint", "synthetic-tiny", f"{tmp_path}/new", "--seed", "-1"], 2, "--seed: -1"),
    ):
        assert main(argv) == code, argv
        err = capsys.readouterr().err
        assert message in err and err.count("\n") == 1
    assert main([*base, "hi"]) == 4  # the control: nothing else is refused
    assert "loaded" in capsys.readouterr().err and (tmp_path / "file").read_text() == "somebody's"
