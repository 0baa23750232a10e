"""Graph → Graph rewrites, one a file, and the order in which they stand.

First what is known folds away and equal ops merge; then reshapes that hide structure move aside; then the
decompositions that exporters write become the ops they mean; last those of other packages (`plugins.py`). Every one may
be left out by name: the graph computes the same.
"""

from __future__ import annotations

from collections.abc import Iterable

from ...errors import CompileError
from ..base import Rewrite
from .dead_code import DeadCode
from .fold_constants import FoldConstants
from .fold_weights import FoldWeights
from .fuse_attention import FuseAttention
from .fuse_experts import FuseExperts
from .fuse_gelu import FuseGelu
from .fuse_layer_norm import FuseLayerNorm
from .fuse_relu import FuseRelu
from .fuse_rms_norm import FuseRmsNorm
from .fuse_rope import FuseRope
from .fuse_silu import FuseSilu
from .fuse_swiglu import FuseSwiglu
from .merge_equal import MergeEqual
from .plugins import find_plugins, with_plugins
from .simplify import Simplify
from .split_projection import SplitProjection
from .transpose_reshape import TransposeReshape
from .unflatten import Unflatten
from .unit_transpose import UnitTranspose

STANDARD: tuple[Rewrite, ...] = (
    DeadCode(),
    FoldConstants(),
    Simplify(),
    FoldWeights(),
    MergeEqual(),
    Unflatten(),
    TransposeReshape(),
    Simplify(),
    SplitProjection(),
    FuseExperts(),
    FuseLayerNorm(),
    FuseRmsNorm(),
    FuseRope(),
    FuseGelu(),
    FuseSilu(),
    FuseSwiglu(),
    FuseRelu(),
    FuseAttention(),
    UnitTranspose(),
    DeadCode(),
)
NAMES: frozenset[str] = frozenset(rewrite.name for rewrite in STANDARD)


def all_rewrites(disabled: Iterable[str] = ()) -> tuple[Rewrite, ...]:
    """The rewrites in their order, those of other packages included, without the ones left out.

    Raises:
        CompileError: a plugin cannot be loaded or does not fit in.
    """
    left_out = frozenset(disabled)
    chosen = with_plugins(STANDARD, find_plugins(), left_out)
    return tuple(rewrite for rewrite in chosen if rewrite.name not in left_out)


def known_names() -> list[str]:
    """The names of all rewrites that could run."""
    return sorted(NAMES | {plugin.name for plugin in find_plugins()})


def refuse_unknown(names: Iterable[str]) -> None:
    """Hold that every rewrite to leave out exists.

    Raises:
        CompileError: one does not; those that do are named.
    """
    known = known_names()
    for name in names:
        if name not in known:
            raise CompileError(
                f"there is no rewrite {name!r}",
                where="option disabled_passes (--no-pass)",
                hint=f"there are: {', '.join(known)}",
            )
