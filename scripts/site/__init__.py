"""Pages that answer, in front of the explorer: what changed, what fits, how fast, one against another.

`asv publish` writes them (`scripts.asv_site`) from what asv measured of every commit. Each is a file by
itself that loads nothing from elsewhere: it works offline, from any folder of a server, and from disk.

A page has a module and a template of its name (`fits.py`, `fits.html`), and parts that begin with it
(`fits_record.py`). What pages share: the frame (`page.py`, `layout.html`), what moved (`shifts.py` and
`.html`) and charts (`charts.py`, `figure.html`). All of them are in `whole.py`.
"""
