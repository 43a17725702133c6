"""A benchmark of any subject, measured by the worker of all of them."""

import pytest
from places import ROOT

from tests.toy_subject.benchmark import TimeToy, TimeToyNetwork
from tests.toy_subject.network import work


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.delenv("ASV_ENV_DIR", raising=False)
    monkeypatch.setenv("ASV_CONF_DIR", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


def test_requests_are_timed_and_stages_told_apart():
    suite = TimeToy()
    records = suite.setup_cache()
    assert len(records["header"]["planned"]) == 4 and records["header"]["source"] == "random"
    suite.setup(records, 5, 2)
    assert suite.record["cell"] == "request subject=tests.toy_subject duration_s=5 batch_size=2"
    assert suite.record["counts"] == {"audio_s": 5, "frames": 125}
    walls, decodes = suite.track_wall()["samples"], suite.track_decode()["samples"]
    assert len(walls) == records["header"]["repeats"]
    assert all(0 < decode < wall for decode, wall in zip(decodes, walls, strict=True))


def test_a_network_is_timed_by_itself():
    suite = TimeToyNetwork()
    records = suite.setup_cache()
    suite.setup(records, "network", 250)
    assert all(seconds > 0 for seconds in suite.track_call()["samples"])
    assert suite.track_flop() == work(250, 4)[0]


@pytest.mark.parametrize("subject", ["tests.toy_subject.engine", "nowhere"])
def test_what_the_commit_does_not_have_is_not_applicable(monkeypatch, subject):
    monkeypatch.setattr(TimeToy, "subject", subject)
    with pytest.raises(NotImplementedError, match="is not known"):
        TimeToy().setup(TimeToy().setup_cache(), 1, 1)
