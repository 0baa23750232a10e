"""A fuzzer of model files: ``python -m benchmarks.fuzz --files 20000``.

Every file is made from its number alone, so a finding is a number. Workers with little memory import it, and compile a
part of what imports; the answer must be one clear `WaferError` or success, within `SECONDS` of processor time and
`MEMORY_BYTES` above what an idle process has.
"""

SECONDS = 10
MEMORY_BYTES = 2 << 30
