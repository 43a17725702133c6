"""Qwen3-TTS, text to speech: requests, streams, networks by themselves, memory by stage.

An utterance has as many frames of 80 ms as the request says; of each the talker makes the first code, the
code predictor the other fifteen. What it costs on a card that is not here is in `costs.py`, the mel of its
speaker encoder in `micro.py`.
"""

from ._figures import _Call, _Heard, _Rtf, _StagePeaks, _Stages
from ._matrix import QWEN3_TTS, SPEECH_STAGES, cell
from .common import RunSuite, one_worker, tracks

DURATIONS_S, BATCHES, CHUNKS = (QWEN3_TTS[name] for name in ("duration_s", "batch_size", "chunk_frames"))
SHORT = {"duration_s": DURATIONS_S[:1]}
FRAME = ("talker_decode", "sampling", "code_predictor")  # stages that make a frame
PREFILL = ("prompt", "talker_prefill")
SIZES = {"talker": (1, 32), "code_predictor": (1,), "decoder": (4, 63), "speaker_encoder": (188,)}


def _seconds(run: dict, stages: tuple[str, ...]) -> float:
    """Of stages of a streamed run, before its first chunk."""
    return sum(run["first_chunk_s"].get(stage, 0.0) for stage in stages)


class _Speech(RunSuite):
    """Base of the timed classes, which one worker serves."""

    subject = "qwen3_tts"
    tiny = SHORT

    @one_worker
    def setup_cache(self):
        return super().setup_cache()


class TimeSpeech(_Rtf, _Speech):
    """Text to files."""

    version = "1"
    params = (DURATIONS_S, BATCHES)
    param_names = ("duration_s", "batch_size")


class TrackSpeechStages(_Stages, _Speech):
    """Seconds per stage of one item; with `other` they add up to the wall time."""

    version = "1"
    params = ((*SPEECH_STAGES, "compile", "save", "other"), DURATIONS_S)
    param_names = ("stage", "duration_s")

    def cell(self, stage, duration_s):
        return cell("request", subject=self.subject, duration_s=duration_s, batch_size=BATCHES[0])


class TrackSpeechTokens(_Speech):
    """What a talker token and a frame take, each of its own stages and not of the wall."""

    version = "1"
    params = (DURATIONS_S, BATCHES)
    param_names = ("duration_s", "batch_size")

    @tracks("ms")
    def track_talker_ms(self, *_):
        """One token of the talker."""
        tokens = self.record["counts"]["talker_tokens"]
        return self.samples(lambda run: 1e3 * run["stages_s"]["talker_decode"] / tokens)

    @tracks("tokens/s", less_is_better=False)
    def track_talker_rate(self, *_):
        tokens = self.record["counts"]["talker_tokens"]
        return self.samples(lambda run: tokens / run["stages_s"]["talker_decode"])

    @tracks("ms")
    def track_frame_ms(self, *_):
        """One frame of all items: talker, draws, and fifteen steps of the code predictor."""
        frames = self.record["counts"]["frames"]
        return self.samples(lambda run: 1e3 * sum(run["stages_s"][stage] for stage in FRAME) / frames)


class TrackFirstSpeech(_Heard, _Speech):
    """One item, streamed in chunks of `chunk_frames`."""

    version = "1"
    kind = "streamed"
    params = (DURATIONS_S, CHUNKS)
    param_names = ("duration_s", "chunk_frames")

    def part(self, *stages):
        """Seconds of stages before the first chunk."""
        return self.samples(lambda run: _seconds(run, stages))

    @tracks("seconds")
    def track_first_prefill(self, *_):
        """Of the time to the first chunk: prompt and prefill."""
        return self.part(*PREFILL)

    @tracks("seconds")
    def track_first_frames(self, *_):
        """Of that: its frames."""
        return self.part(*FRAME)

    @tracks("seconds")
    def track_first_decode(self, *_):
        """Of that: frames to sound."""
        return self.part("decode")

    @tracks("seconds")
    def track_first_rest(self, *_):
        """Of that: recording graphs, where a card does, and what is in no stage."""
        return self.samples(lambda run: run["first_audio_s"] - _seconds(run, (*PREFILL, *FRAME, "decode")))


class TimeSpeechNetwork(_Call, _Speech):
    """A network by itself, of a Base model: the talker steps by one row, or prefills; the code predictor
    makes a frame; the decoder a piece of 4 frames, or 5 s; the speaker encoder hears 2 s."""

    version = "1"
    kind = "component"
    params = (QWEN3_TTS["component"], QWEN3_TTS["size"])
    param_names = ("component", "size")

    def leaves(self, source, *params):
        component, size = params
        return size in SIZES[component] and super().leaves(source, *params)


class PeakMemSpeech(_StagePeaks):
    """The peak of memory while a stage ran."""

    version = "1"
    subject = "qwen3_tts"
    tiny = SHORT
    params = (SPEECH_STAGES, DURATIONS_S)

    @one_worker
    def setup_cache(self):
        return super().setup_cache()
