"""What serving reaches: `python -m bench.serve`."""
