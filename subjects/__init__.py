"""Generative models that are measured beside ACE-Step, each a folder that knows no other."""
