"""A recording that is no voice is refused, and what is one is heard."""

import os

import numpy as np
import pytest
import soundfile

from harness.errors import MissingPrerequisite
from subjects.qwen3_tts import voice
from subjects.qwen3_tts.mel import log_mel


@pytest.mark.parametrize(
    ("peak", "message"),
    [
        (0.0, "is silent"),
        (3e38, r"has samples of 3e\+38, where 1 is full scale"),
        (np.nan, "not numbers"),
    ],
)
def test_what_is_no_voice_is_refused(peak, message, tmp_path):
    path = tmp_path / "a.wav"
    sound = np.full(24_000, 0.0, np.float32)
    sound[1_000] = peak
    soundfile.write(path, sound, 24_000, "FLOAT")
    with pytest.raises(MissingPrerequisite, match=f"reference: .*a\\.wav. .*{message}"):
        voice.samples(str(path))
    sound[1_000] = voice.MOST_PEAK  # the control
    soundfile.write(path, sound, 24_000, "FLOAT")
    assert log_mel(voice.samples(str(path))).isfinite().all()


def test_a_recording_shorter_than_its_header_says_is_refused(tmp_path):
    path, lot = tmp_path / "cut.mp3", np.random.RandomState(0)
    soundfile.write(path, 0.1 * lot.standard_normal(48_000), 16_000)
    assert voice.samples(str(path)).shape[1] == pytest.approx(72_000, abs=240)
    os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(MissingPrerequisite, match=r"ends after 1\.\d+ s of the 3\.00 s it is said to have"):
        voice.samples(str(path))
