"""Qwen3-TTS with the 12 Hz tokenizer: text to speech, Talker ▶ CodePredictor ▶ Decoder12Hz.

    prompt ─▶ talker: a code a frame ─▶ code predictor: 15 more ─▶ decoder: 1,920 samples a frame, 24 kHz

A frame is 80 ms (12.5 Hz) and 16 codes. The talker, a Qwen3 transformer, draws the first; the code predictor,
a small one, draws the others one after another, from the talker's hidden state and the codes before; the sum
of the embeddings of all 16 is the talker's next input. The decoder is causal.
"""
