"""The command ``wafercc``, one verb a file: each parses, calls the library and prints."""
