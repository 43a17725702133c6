"""RVC as the worker measures it and its benchmarks read it."""

import json
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from readings import read

from benchmarks import costs, rvc
from subjects.rvc.backends import mlx_process
from subjects.rvc.bench import fresh, parity
from subjects.rvc.layout import TINY
from subjects.rvc.subject import SUBJECT

SECONDS = 0.25


@pytest.fixture(scope="module")
def engine():
    return SUBJECT.load(SUBJECT.setup(TINY, device="cpu"))


@pytest.fixture
def plan(engine):
    return engine.resolve(SUBJECT.request(SECONDS))


@pytest.fixture(autouse=True)
def _once(here, monkeypatch):
    monkeypatch.setattr(here.any_subject, "REPEATS", 1)
    monkeypatch.setattr(here.any_subject, "repeats", lambda: range(2))


@pytest.fixture(scope="module")
def run(inside):
    """From a cell to what the worker makes of it, of tiny weights on the CPU."""
    choices = json.dumps({"source": TINY, "device": "cpu"})
    return inside.any_subject.subject("rvc", choices, "[]")[2]


def test_a_conversion_is_read_stage_by_stage(here, engine, plan):
    record = here.any_subject.request(SUBJECT, engine, plan)
    record["runs"] = record["runs"][:1]
    (timed,) = record["runs"]
    stages = [
        read(rvc.TrackConversionStages, record, stage, 1.0)["stage"]["samples"][0]
        for stage in rvc.TrackConversionStages.params[0]
    ]
    assert sum(stages) == pytest.approx(timed["wall_s"], rel=1e-4) and min(stages[:-1]) > 0
    conversion = read(rvc.TimeConversion, record, 1.0, "torch")
    assert conversion["rtf"]["samples"] == pytest.approx(
        [timed["wall_s"] / record["counts"]["audio_s"]], rel=1e-4
    )


def test_memory_is_that_of_each_stage_and_at_least_the_weights(here, engine, plan):
    record = here.any_subject.footprint(SUBJECT, engine, plan)
    assert record["weights_bytes"] == engine.models.weights_bytes
    for stage in rvc.PeakMemConversion.params[0]:
        assert read(rvc.PeakMemConversion, record, stage, 1.0)["peak"] >= record["weights_bytes"]


@pytest.mark.parametrize("suite", [rvc.TimeRMVPE, rvc.TimeHuBERT, partial(rvc.TimeSynthesis), None])
def test_networks_are_called_at_the_length_that_is_named(run, suite):
    if suite is None:
        cell = rvc.TrackRVCScaling().cell("encoder")
        growth = run(cell)
        assert growth["samples_s"].keys() == set(rvc.RVC["length_s"])
        return
    cell = suite().cell(*(["flow"] if isinstance(suite, partial) else []), 0.5, "torch")
    record = run(cell)
    name = cell["component"]
    work = SUBJECT.components(TINY)[name].work(50, torch.float32.itemsize)
    assert tuple(record["counts"].values()) == work
    assert [one["wall_s"] > 0 for one in record["runs"]] == [True]


@pytest.mark.parametrize("part", rvc.IN_PIECES[1:])
@pytest.mark.parametrize("comparison", ["folded", "chunked"])
def test_a_part_made_another_way_is_itself(run, part, comparison):
    record = run(rvc.TrackRVCParity().cell(part, comparison))
    figures = read(rvc.TrackRVCParity, record, part, comparison)
    assert figures["relative_rms"] < 1e-6 and figures["decorrelation"] < 1e-6
    assert (figures["log_mel"] < 1e-5) == (part == "synthesis")  # else n/a


def test_what_is_off_has_failed_whatever_its_correlation(run, monkeypatch):
    """A gain of 1 % correlates perfectly; pieces without context are another sound."""

    def without_context(network, phone, pitch, f0, speaker, e1, eps, *, frames):
        g, har = network.voice(speaker), network.dec.m_source(f0, eps)
        return network.dec.chunked(network.flow(network.latents(phone, pitch, e1), g), har, g, frames, 0)

    cell = rvc.TrackRVCParity().cell("synthesis", "chunked")
    for wrong in (without_context, lambda network, *drawn, frames: 1.01 * network(*drawn)):
        monkeypatch.setattr(parity, "pieced", wrong)
        record = run(cell)
        assert record["status"] == "failed" and "is the limit" in record["reason"]
    assert record["parity"]["correlation"] > 0.999999999 and record["parity"]["relative_rms"] > 0.0099


def test_the_pitch_of_an_ideal_salience_is_right_and_a_decoder_that_is_not_is_seen(run, monkeypatch):
    suite, decode = rvc.TrackPitchAccuracy, parity.pitch.decode
    for voice in suite.params[0]:
        figures = read(suite, run(suite().cell(voice)), voice)
        assert figures["cents"] < 1.0001 * figures["cents_max"] < 0.1 and figures["voicing_error"] == 0
    monkeypatch.setattr(parity.pitch, "decode", lambda salience: decode(salience.roll(1, -1)))
    assert read(suite, run(suite().cell("chirp")), "chirp")["cents"] == pytest.approx(20, abs=0.1)
    monkeypatch.setattr(parity.pitch, "decode", lambda salience: torch.ones(salience.shape[:-1]))
    voicing = read(suite, run(suite().cell("voiced/unvoiced")), "voiced/unvoiced")["voicing_error"]
    assert voicing == pytest.approx(1 - 2 * 0.6 / 1.6)


def test_what_is_in_mlx_is_measured_in_its_own_process_or_not_applicable(here, run, engine, monkeypatch):
    cells = [
        rvc.TimeRMVPE().cell(0.5, "mlx"),
        rvc.TimeConversion().cell(SECONDS, "mlx"),
        rvc.TrackRVCParity().cell("flow", "mlx"),
    ]
    monkeypatch.setattr(mlx_process, "absent", lambda: "mlx is not installed")
    for cell in cells:
        with pytest.raises(here.commit.Unsupported, match="mlx: mlx is not installed"):
            run(cell)

    class Beside:
        """What a process of MLX offers, played by torch."""

        def __init__(self, setup, threads=None):
            self.parts = SUBJECT.components(setup.source)

        def __enter__(self):
            return self

        def __exit__(self, *error):
            pass

        def call(self, name, inputs):
            part = self.parts[name]
            network = part.build(torch.device("cpu"), torch.float32)
            return SimpleNamespace(seconds=0.125, output=part.run(network, *inputs))

        run = staticmethod(engine.run)

    monkeypatch.setattr(mlx_process, "absent", lambda: None)
    monkeypatch.setattr(mlx_process, "Mlx", Beside)
    network, conversion, distance = map(run, cells)
    assert [one["wall_s"] for one in network["runs"]] == [0.125]
    assert conversion["counts"]["audio_s"] == pytest.approx(SECONDS, abs=0.021)
    assert distance["parity"]["relative_rms"] == 0


def test_the_first_conversion_of_a_process_is_told_from_the_next(here, plan, monkeypatch):
    class Here:
        """A pool of this process."""

        def __init__(self, jobs):
            self.map = map

        def __enter__(self):
            return self

        def __exit__(self, *error):
            pass

    monkeypatch.setattr(fresh, "Processes", Here)
    monkeypatch.setattr(fresh, "LEAST_S", 60.0)  # on a busy machine
    record = here.any_subject.cold(SUBJECT.fresh, plan)
    for phase in rvc.TrackRVCColdStart.params[0]:
        assert min(read(rvc.TrackRVCColdStart, record, phase)["phase"]["samples"]) > 0


def test_half_a_minute_is_predicted_kernel_by_kernel_and_a_small_card_is_out_of_memory(here, monkeypatch):
    predicted = []

    def predict(subject, plan, card):
        predicted.append((subject.name, plan.request.duration_s, plan.setup.model, card.memory_gib))
        return SimpleNamespace(fits=card.memory_gib > 3, running=(), peak_bytes=3 * 2**30)

    monkeypatch.setattr("harness.trace.predict.predict", predict)
    assert here.predictions.measure(costs.TrackCostRVC().cell("generate", "48k"))["stages"] == {}
    statuses = [
        here.predictions.measure(costs.TrackPredictedPeakRVC().cell(tier_gb, "48k"))["status"]
        for tier_gb in rvc.RVC["tier_gb"]
    ]
    assert statuses == ["oom", "ok"]
    card_gib = here.predictions.card().memory_gib
    assert predicted == [("rvc", 30.0, "48k", size) for size in (card_gib, 2.0, 4.0)]
