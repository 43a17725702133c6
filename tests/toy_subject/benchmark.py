"""The asv benchmarks of the toy, as a file of `benchmarks/` would have them."""

from benchmarks.common import SETUP_CACHE_TIMEOUT_S, SubjectSuite, tracks


class TimeToy(SubjectSuite):
    """Wall time of a request, and of its stages."""

    version = "1"
    subject = "tests.toy_subject"
    params = ((1, 5), (1, 2))
    param_names = ("duration_s", "batch_size")

    def setup_cache(self):
        return self.measured()

    setup_cache.timeout = SETUP_CACHE_TIMEOUT_S

    @tracks("seconds")
    def track_wall(self, *_):
        return self.samples(lambda run: run["wall_s"])

    @tracks("seconds")
    def track_decode(self, *_):
        return self.stage("decode")


class TimeToyNetwork(SubjectSuite):
    """The network by itself, and its arithmetic."""

    version = "1"
    subject = "tests.toy_subject"
    kind = "component"
    params = (("network",), (25, 250))
    param_names = ("component", "size")

    def setup_cache(self):
        return self.measured()

    setup_cache.timeout = SETUP_CACHE_TIMEOUT_S

    @tracks("seconds")
    def track_call(self, *_):
        return self.samples(lambda run: run["wall_s"])

    @tracks("FLOP")
    def track_flop(self, *_):
        return self.record["counts"]["flop"]
