"""A recording to convert, made from sines: nobody's voice, so nobody's rights.

    sung.ogg    4 s, mono, 16 kHz: four notes on the vowels a, e, i, o with a breath of noise before each

The samples are the same on every run. Released under CC0 1.0, as is the file.

    python examples/audio/make_sung.py
"""

from pathlib import Path

import numpy as np
import soundfile

RATE = 16_000
NOTES_HZ = (146.8, 164.8, 196.0, 174.6)  # D3, E3, G3, F3
VOWELS_HZ = ((730, 1090, 2440), (530, 1840, 2480), (270, 2290, 3010), (570, 840, 2410))  # formants
BREATH_S = 0.2  # of each second


def sung() -> np.ndarray:
    """`[4 s]`: harmonics loud near a vowel's formants, with 5.5 Hz of vibrato."""
    t = np.arange(RATE) / RATE
    notes = []
    for note, formants in zip(NOTES_HZ, VOWELS_HZ, strict=True):
        pitch = note * 2 ** (np.sin(2 * np.pi * 5.5 * t) / 80)
        phase = 2 * np.pi * np.cumsum(pitch) / RATE
        wave = sum(
            np.sin(n * phase) * sum(1 / (1 + ((n * pitch - centre) / 100) ** 2) for centre in formants)
            for n in range(1, 24)
        )
        rise = np.clip((t - BREATH_S) / 0.03, 0, 1) * np.clip((1 - t) / 0.05, 0, 1)
        breath = 0.03 * np.random.RandomState(0).standard_normal(RATE) * (t < BREATH_S)
        notes.append(0.4 * wave / np.abs(wave).max() * rise + breath)
    return np.concatenate(notes)


if __name__ == "__main__":
    soundfile.write(Path(__file__).with_name("sung.ogg"), sung(), RATE)
