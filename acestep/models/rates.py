"""Rates of the published models: samples and latent frames of a second. No torch import here."""

SAMPLE_RATE = 48_000  # samples per second
FRAMES_PER_SECOND = 25  # of latents
FRAME_SAMPLES = SAMPLE_RATE // FRAMES_PER_SECOND
MIN_FRAMES = 128  # the model makes nothing shorter: a shorter request is padded to it and not trimmed back
SHORTEST_S = MIN_FRAMES / FRAMES_PER_SECOND
