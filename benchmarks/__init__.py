"""Measurements of wafercc: speed of the commands, sizes chosen, formulas against the runtime. Never timed in tests."""
