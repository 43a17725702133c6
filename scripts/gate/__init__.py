"""Is HEAD slower than BASE? See `__main__.py`; `record.py` is what a run leaves."""
