"""Indexes as faiss writes them, and what the published pipeline reads off one: `golden_index.npz`.

    pip install faiss-cpu==1.15.1 numpy && python tests/subjects/rvc/golden_index.py

Everything but the clusters, which are faiss's own, is of a seed. `frames` and `means` are what is looked for
and found in `added`; every other entry is a file.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

PLACE = Path(__file__).with_suffix(".npz")
WIDTH, ROWS, CELLS = 32, 60, 4  # of the tiny voice's features
NEIGHBOURS = 8


def trained(faiss: Any, rows: np.ndarray, *metric: int) -> Any:
    """An index as training begins it."""
    index = faiss.index_factory(WIDTH, f"IVF{CELLS},Flat", *metric)
    faiss.extract_index_ivf(index).nprobe = 1
    index.train(rows)
    return index


def means(faiss: Any, index: Any, frames: np.ndarray) -> np.ndarray:
    """Of the rows near each frame, as the published pipeline has them; its big_npy is all rows."""
    scores, places = index.search(frames, NEIGHBOURS)
    weights = np.square(1 / scores.astype(np.float64))
    weights /= weights.sum(axis=1, keepdims=True)
    rows = index.reconstruct_n(0, index.ntotal)
    return (rows[places] * weights[:, :, None]).sum(axis=1)


def main() -> None:
    import faiss  # type: ignore[import-not-found]

    lot = np.random.RandomState(0)
    rows = lot.standard_normal((ROWS, WIDTH)).astype(np.float32)
    frames = lot.standard_normal((12, WIDTH)).astype(np.float32)
    added = trained(faiss, rows)
    added.add(rows)
    begun = trained(faiss, rows)
    sparse = trained(faiss, rows)
    _, places = sparse.quantizer.search(rows, 1)
    sparse.add(rows[places[:, 0] == places[0, 0]])
    mapped, hashed, probing = (trained(faiss, rows) for _ in range(3))
    inner = trained(faiss, rows, faiss.METRIC_INNER_PRODUCT)
    flat = faiss.IndexFlatL2(WIDTH)
    for index in (mapped, hashed, probing, inner, flat):
        index.add(rows[:4])
    mapped.make_direct_map()
    hashed.set_direct_map_type(faiss.DirectMap.Hashtable)
    probing.nprobe = 2
    files = {
        "added": added, "trained": begun, "sparse": sparse, "mapped": mapped,
        "hashed": hashed, "probing": probing, "inner": inner, "flat": flat,
    }  # fmt: skip
    written = {name: faiss.serialize_index(index) for name, index in files.items()}
    np.savez_compressed(PLACE, frames=frames, means=means(faiss, added, frames), **written)


if __name__ == "__main__":
    main()
