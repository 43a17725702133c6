"""What changed over the history that asv measured: change points, and what is only noise."""
