"""What every benchmark of a generative model needs, and no model's name: it imports nothing else of ours."""
