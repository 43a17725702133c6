"""Rates of the published models: samples and latent frames of a second. No torch import here."""

SAMPLE_RATE = 48_000  # samples per second
FRAMES_PER_SECOND = 25  # of latents
FRAME_SAMPLES = SAMPLE_RATE // FRAMES_PER_SECOND
MIN_FRAMES = 128  # the model makes nothing shorter; what a shorter request did not ask for is cut off again


def latent_frames(duration_s: float) -> int:
    """Frames of a request: whole frames of the duration to a tenth of a second, at least 128."""
    samples = int(max(0.1, round(duration_s, 1)) * SAMPLE_RATE)
    return max(samples // FRAME_SAMPLES, MIN_FRAMES)
