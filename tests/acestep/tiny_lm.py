"""The tiny language model in fp64, in which no rounding of a matrix product changes what is sampled."""

from functools import cache

import torch

from acestep.checkpoint import materialise, on_meta
from acestep.lm.planner import Planner
from acestep.lm.pt_backend import PT
from acestep.models.configs import Qwen3Config, parse_config
from acestep.models.qwen3 import Qwen3
from acestep.sources import LMS
from acestep.synthetic import Synthetic

CPU = torch.device("cpu")


@cache
def tiny_planner() -> Planner:
    source = Synthetic("synthetic-tiny")
    config = parse_config(source.config(LMS[0]), Qwen3Config, "tiny")
    model: Qwen3 = on_meta(lambda: Qwen3(config))
    materialise(model, source.weights(LMS[0]).read, device=CPU, dtype=torch.float64)
    return Planner(PT(model, CPU), source.tokenizer(LMS[0]))
