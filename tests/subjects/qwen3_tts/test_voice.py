"""A recording that is no voice is refused, and what is one is heard."""

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
