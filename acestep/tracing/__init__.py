"""The engine on tensors without values, for a fake card to trace."""
