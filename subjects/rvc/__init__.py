"""RVC version 2: a recording of one voice into another, at the same pitch or a shifted one.

    recording, 16 kHz ─┬─▶ RMVPE: pitch, 100 Hz ────────────────┐
                       └─▶ HuBERT: what is said, 50 Hz, twice ──┴─▶ synthesizer ─▶ 32, 40 or 48 kHz

The synthesizer's text encoder makes a distribution of latents of what is said and of the pitch in 255 steps;
its flow, run backwards, gives the latents of the speaker; its generator, a HiFi-GAN driven by a sine of the
pitch, makes the wave.
"""
