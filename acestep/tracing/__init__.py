"""The engine without values, for a fake card to trace."""
