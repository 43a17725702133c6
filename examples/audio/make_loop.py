"""The recordings of the examples, made from sines: nobody's music, so nobody's rights.

    loop.flac   8 s, stereo, 44.1 kHz: A minor, F, C, G with a bass and a tick, to cover, repaint and extend
    voice.ogg   4 s, mono, 16 kHz: a gliding vowel, to take its timbre

The samples are the same on every run. Released under CC0 1.0, as are the files.

    python examples/audio/make_loop.py
"""

from pathlib import Path

import numpy as np
import soundfile

HERE = Path(__file__).parent
TEMPO_S = 0.5  # a beat at 120 bpm
CHORDS = [(57, 60, 64), (53, 57, 60), (48, 52, 55), (55, 59, 62)]  # MIDI notes, two seconds each


def hertz(note: float) -> float:
    return 440.0 * 2 ** ((note - 69) / 12)


def tone(note: int, seconds: float, rate: int, partials: int) -> np.ndarray:
    """A plucked string: partials fall as 1/n² and fade the faster the higher they are."""
    t = np.arange(int(seconds * rate)) / rate
    sines = [
        np.sin(2 * np.pi * n * hertz(note) * t) * np.exp(-n * t / seconds) / n**2
        for n in range(1, partials + 1)
    ]
    edge = np.minimum(1, np.minimum(t, seconds - t) / 0.005)  # 5 ms in and out: no clicks
    return sum(sines) * edge


def loop(rate: int = 44_100) -> np.ndarray:
    """`[8 s, 2]`: chords a little to the sides, bass and tick in the middle."""
    beat, bar = int(TEMPO_S * rate), int(4 * TEMPO_S * rate)
    tick = np.random.default_rng(0).normal(size=rate // 50) * np.exp(-np.arange(rate // 50) / (rate / 200))
    left, right = np.zeros((2, len(CHORDS) * bar))
    for index, chord in enumerate(CHORDS):
        at = index * bar
        for place, note in enumerate(chord):
            string = 0.06 * tone(note, 4 * TEMPO_S, rate, partials=4)
            left[at : at + bar] += string * (1.2 - 0.2 * place)
            right[at : at + bar] += string * (0.8 + 0.2 * place)
        for count in range(4):
            start = at + count * beat
            for side in (left, right):
                side[start : start + beat] += 0.12 * tone(chord[0] - 24, TEMPO_S, rate, partials=3)
                side[start : start + len(tick)] += 0.02 * tick
    return np.stack([left, right], axis=1)


def voice(rate: int = 16_000, seconds: float = 4.0) -> np.ndarray:
    """`[4 s]`: harmonics of a gliding pitch, loud near the formants of a vowel going from "ah" to "oh"."""
    t = np.arange(int(seconds * rate)) / rate
    pitch = hertz(52) * 2 ** (np.sin(2 * np.pi * t / seconds) / 6 + np.sin(2 * np.pi * 5 * t) / 120)
    phase = 2 * np.pi * np.cumsum(pitch) / rate
    formants = [(730 - 160 * t / seconds, 90), (1090 - 250 * t / seconds, 110), (2440, 160)]  # Hz, width
    wave = np.zeros_like(t)
    for n in range(1, 30):
        loudness = sum(1 / (1 + ((n * pitch - centre) / width) ** 2) for centre, width in formants)
        wave += loudness * np.sin(n * phase) / n**0.5
    return 0.5 * wave / np.abs(wave).max() * np.minimum(1, np.minimum(t, seconds - t) / 0.05)


if __name__ == "__main__":
    soundfile.write(HERE / "loop.flac", loop(), 44_100, compression_level=1.0)
    soundfile.write(HERE / "voice.ogg", voice(), 16_000)
