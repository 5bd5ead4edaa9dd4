"""The HTTP server: rerank APIs that clients already speak, and the search of a bundle.

`service.py` is the core without HTTP, `batcher.py` fills batches across requests; `wire.py` and `conventions.py` are
what each API sends, `answers.py` and `refusing.py` what it gets; `app.py` puts them together, `run.py` runs them.
"""
