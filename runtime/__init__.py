"""The runtime: executes a placed program and counts its cycles; knows nothing of how it was made."""
