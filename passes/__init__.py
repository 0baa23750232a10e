"""The passes, one a file, from a Graph to a placed program; `pipeline.py` is the table of contents."""
