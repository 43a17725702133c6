"""Tiny models with few layers, and a card that is entered, for every test of predictions."""

from allocations import card, small_models

__all__ = ["card", "small_models"]
