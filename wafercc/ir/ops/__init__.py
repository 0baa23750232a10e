"""The rows of the op table, one file a family.

Negative axes never appear in attributes: importers normalise them. ``*`` marks optional operands.

    kind        operands           attributes                        meaning
    --- elementwise.py (numpy broadcasting; every dimension is a parallel loop)
    neg abs exp log sqrt reciprocal sin cos tan asin acos atan sinh cosh tanh asinh acosh atanh sigmoid erf floor ceil
    round sign not bit_not isnan relu silu
                x                                                    unary; round gives halves to the even side
    gelu        x                  approximate: tanh|none            x * Phi(x)
    cast        x                  to: dtype
    bitcast     x                  to: dtype of as many bits         the same bits
    add sub mul div pow max min mod eq ne lt le gt ge and or xor
                a b                                                  binary; comparisons give bool; integer div
                                                                     truncates; mod as ONNX Mod: integers take the
                                                                     divisor's sign, floats the dividend's
    bit_and bit_or bit_xor shift_left shift_right
                a b                                                  of integers
    where       condition a b
    swiglu      gate up                                              silu(gate) * up
    --- sources.py
    constant    -                  value: nested tuples,             a small literal tensor
                                   dtype, shape
    range       -                  start: int|Dim, step: int,        start + step * i
                                   count: Dim, dtype
    fill        -                  value, dtype, shape               one number everywhere; a Dim value is n_past
                                                                     arithmetic
    --- shape.py
    reshape     x                  shape                             all Dims resolved, no 0 or -1
    transpose   x                  perm
    expand      x                  shape                             broadcast to exactly this shape
    slice       x                  axis, start: Dim, step,           one axis per op
                                   count: Dim
    concat      x...               axis
    kv_append   past new           axis                              concat onto a cache that stays in place, cyclic
                                                                     over PEs
    --- lookup.py (negative indices count from the end)
    embedding   table ids                                            rows of a weight [v,c]; ids of any shape ->
                                                                     ids.shape + [c]
    gather      x indices          axis                              ONNX Gather with axis != 0 or a computed x
    gather_nd   x indices          batch_dims
    --- select.py
    topk        x                  axis, k, largest: bool            places of the k largest along axis, best first, of
                                                                     equal ones the first
    gather_elements
                x indices          axis                              ONNX GatherElements
    nonzero     x                                                    places of what is not zero, row-major, as columns
                                                                     [rank, elements of x]; columns past the last hold
                                                                     the number of elements of x
    --- scatter.py (places outside are dropped)
    scatter_elements
                x indices updates  axis, reduction: none|add|mul|    ONNX ScatterElements
                                   max|min
    scatter_nd  x indices updates  reduction                         ONNX ScatterND
    --- linear.py
    matmul      a b                                                  numpy matmul broadcasting of batch dims; ranks >= 2
    --- experts.py (works by choice: a PE only for rows that choose an expert it holds)
    moe_experts x w ids            distinct                          x[m] @ w[ids[m]], x [m,k], w [e,k,n]; zeros where
                                                                     ids[m] is no expert; each ``distinct`` rows in turn
                                                                     choose different experts
    --- reduce.py
    reduce_sum reduce_mean reduce_max reduce_min
                x                  axes, keep: bool
    cumsum      x                  axis, exclusive, reverse
    softmax     x                  axis
    --- norm.py (over the last dimension; weight and bias may be of another float type than x)
    rms_norm    x weight*          epsilon
    layer_norm  x weight* bias*    epsilon
    --- attention.py
    rope        x cos sin          interleaved: bool, rotary: int    x [..., d]; cos/sin broadcast against
                                                                     x[..., :rotary/2]
    attention   q k v mask* sink*  scale, softcap                    q [b,h,s,d], k [b,hk,t,d], v [b,hk,t,dv];
                                                                     h = hk * group, query head i reads kv head
                                                                     i // group; mask bool (true = see) or additive
                                                                     float, broadcast against [b,h,s,t]; a row that
                                                                     sees nothing gives 0; softcap 0 is none; sink
                                                                     [h] is one more score of each row, of no value
    --- quant.py (blocks: elements a scale, for each dimension; 0 is all of them; scales and zero points have as many
        dimensions, each 1 or one for every block; see the file)
    quantize    x scale zero*      to: dtype, blocks                 x / scale, rounded half to even, plus zero,
                                                                     saturated
    dequantize  x scale zero*      blocks                            (x - zero) * scale
    round_blocks
                x                  block                             every block of the last dimension as 8-bit
                                                                     multiples of its largest magnitude / 127
    --- quant_linear.py (weights stay quantised in SRAM)
    matmul_int  a b zero_a* zero_b*                                  (a - zero_a) @ (b - zero_b) of 8-bit integers, i32
    matmul_quant
                a b scale zero*    blocks                            a @ dequantize(b)
    embedding_quant
                table ids scale zero*
                                   blocks                            rows of dequantize(table)

Types are strict: operands of a binary op share one dtype (importers insert casts); ``where`` likewise.
"""

from __future__ import annotations

from ..optable import OpSpec
from . import (
    attention,
    elementwise,
    experts,
    linear,
    lookup,
    norm,
    quant,
    quant_linear,
    reduce,
    scatter,
    select,
    shape,
    sources,
)

ALL: tuple[OpSpec, ...] = (
    *elementwise.SPECS,
    *sources.SPECS,
    *shape.SPECS,
    *lookup.SPECS,
    *select.SPECS,
    *scatter.SPECS,
    *linear.SPECS,
    *experts.SPECS,
    *reduce.SPECS,
    *norm.SPECS,
    *attention.SPECS,
    *quant.SPECS,
    *quant_linear.SPECS,
)
