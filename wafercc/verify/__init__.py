"""The independent checker of placed programs."""
