"""asv benchmarks of ACE-Step 1.5. What is measured is in `_matrix/`, how in `worker/`."""
