"""What comes after decoding costs a card nothing; what comes before it, what its two operators do."""

import numpy as np
import pytest
import soundfile
from allocations import cost, song

from acestep.models.rates import FRAMES_PER_SECOND

REGION = {"repainting_start": 2.0, "repainting_end": 4.0}


def work(**fields):
    return {stage.stage: stage.work for stage in cost(params=song(6, 1, **fields)).stages}


@pytest.fixture(scope="module")
def plain():
    return work()


def test_level_and_fades_are_the_hosts(plain):
    fields = {"enable_normalization": True, "fade_in_duration": 1.0, "fade_out_duration": 2.0}
    assert work(**fields) == plain


def test_a_recording_is_put_back_on_the_host(tmp_path):
    path = tmp_path / "song.wav"
    soundfile.write(path, np.random.default_rng(0).uniform(-0.4, 0.4, 6 * 48_000), 48_000)
    fields = {"task_type": "repaint", "src_audio": str(path), "repaint_injection_ratio": 0.0} | REGION
    fields["repaint_latent_crossfade_frames"] = 0
    spliced = work(**fields, repaint_wav_crossfade_sec=0.05)
    assert spliced == work(**fields, repaint_mode="aggressive")
    assert spliced["post"].to_host_bytes == 2 * 6 * 48_000 * 4  # the copy there always is, and no other


def test_latents_are_rescaled_by_two_launches(plain):
    changed = work(latent_rescale=1.1, latent_shift=0.1)
    assert {name for name in plain if plain[name] != changed[name]} == {"vae_decode"}
    before, after = plain["vae_decode"], changed["vae_decode"]
    latent_bytes = 6 * FRAMES_PER_SECOND * 64 * 2
    assert after.launches - before.launches == 2 and after.syncs == before.syncs
    assert after.written_bytes - before.written_bytes == 2 * latent_bytes
