"""Models to try: the demo, and later the catalog."""
