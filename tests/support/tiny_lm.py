"""The tiny language model in fp64, in which no rounding of a matrix product changes what is sampled."""

from functools import cache

import torch

from acestep.lm.backends.pt_backend import PT
from acestep.lm.planner import Planner
from acestep.weights.layout import LMS
from acestep.weights.synthetic import Synthetic
from harness.checkpoint import materialise, on_meta
from harness.nn.config import Qwen3Config, parse_config
from harness.nn.qwen3 import Qwen3

CPU = torch.device("cpu")


@cache
def tiny_planner() -> Planner:
    source = Synthetic("synthetic-tiny")
    config = parse_config(source.config(LMS[0]), Qwen3Config, "tiny")
    model: Qwen3 = on_meta(lambda: Qwen3(config))
    materialise(model, source.weights(LMS[0]).read, device=CPU, dtype=torch.float64)
    return Planner(PT(model, CPU), source.tokenizer(LMS[0]))
