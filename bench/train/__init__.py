"""The measurements of the trainer; see `__main__.py`."""
