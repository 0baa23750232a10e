"""Conformance: the official ONNX backend tests, each compiled onto a small mesh and executed there.

`WaferBackend` is an ``onnx.backend.base.Backend``, so anything that drives such a backend can drive wafercc.
``python -m wafercc.conformance`` runs every node test of the installed onnx and writes what happened to
docs/conformance.md and docs/conformance.csv.
"""

from __future__ import annotations

from .backend import WaferBackend, WaferRep

__all__ = ["WaferBackend", "WaferRep"]
