"""What a card does, in twelve minutes: `python -m scripts.gpu`."""
