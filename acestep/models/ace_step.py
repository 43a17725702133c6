"""The four networks that share one checkpoint file, under the names it gives them."""

from __future__ import annotations

import torch
from torch import nn

from acestep.models.codes import AudioTokenizer, Detokenizer
from acestep.models.condition import ConditionEncoder
from acestep.models.configs import DiTConfig
from acestep.models.dit import DiT


class AceStep(nn.Module):
    """677 tensors, 2.39 billion parameters in the 2B family; 829 and 4.99 billion in XL."""

    def __init__(self, config: DiTConfig):
        super().__init__()
        self.config = config
        self.decoder = DiT(config)
        self.encoder = ConditionEncoder(config)
        self.tokenizer = AudioTokenizer(config)
        self.detokenizer = Detokenizer(config)
        self.null_condition_emb = nn.Parameter(torch.zeros(1, 1, config.encoder.hidden_size))
