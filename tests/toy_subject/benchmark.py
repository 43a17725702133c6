"""The asv benchmarks of the toy, as a file of `benchmarks/` would have them."""

from benchmarks._figures import _Call, _Wall
from benchmarks.common import SubjectSuite, one_worker, tracks


class TimeToy(_Wall, SubjectSuite):
    """Wall time of a request, and of its stages."""

    version = "1"
    subject = "tests.toy_subject"
    params = ((1, 5), (1, 2))
    param_names = ("duration_s", "batch_size")

    @one_worker
    def setup_cache(self):
        return super().setup_cache()

    @tracks("seconds")
    def track_decode(self, *_):
        return self.stage("decode")


class TimeToyNetwork(_Call, SubjectSuite):
    """The network by itself, and its arithmetic."""

    version = "1"
    subject = "tests.toy_subject"
    kind = "component"
    params = (("network",), (25, 250))
    param_names = ("component", "size")

    @one_worker
    def setup_cache(self):
        return super().setup_cache()

    @tracks("FLOP")
    def track_flop(self, *_):
        return self.record["counts"]["flop"]
