"""Stages: cut where one value crosses, equal layers found, any number of stages on demand."""

from __future__ import annotations

import pytest

from wafercc.errors import CompileError
from wafercc.ir.graph import Graph
from wafercc.ir.text import parse_graph
from wafercc.passes.partition import MakePartition, cheap_values


def decoder(layers: int) -> Graph:
    """Embedding, equal layers with a residual and a shared mask, a head."""
    lines = ["graph toy", "input %ids: i64[1,4]", "input %seen: i64[1,4]", "weight %table: f32[50,32]"]
    body = [
        "%mask: bool[1,4] = cast(%seen, to=bool)  @mask",
        "%float: f32[1,4] = cast(%mask, to=f32)  @float",
        "%gate: f32[1,4,1] = reshape(%float, shape=[1,4,1])  @gate",
        "%x0: f32[1,4,32] = embedding(%table, %ids)  @embed",
    ]
    for i in range(layers):
        lines += [f"weight %up{i}: f32[32,64]", f"weight %down{i}: f32[64,32]"]
        body += [
            f"%n{i}: f32[1,4,32] = rms_norm(%x{i}, _, epsilon=1e-06)  @norm{i}",
            f"%u{i}: f32[1,4,64] = matmul(%n{i}, %up{i})  @up{i}",
            f"%s{i}: f32[1,4,64] = silu(%u{i})  @silu{i}",
            f"%d{i}: f32[1,4,32] = matmul(%s{i}, %down{i})  @down{i}",
            f"%g{i}: f32[1,4,32] = mul(%d{i}, %gate)  @gated{i}",
            f"%x{i + 1}: f32[1,4,32] = add(%x{i}, %g{i})  @add{i}",
        ]
    lines += ["weight %head: f32[32,50]"]
    body += [f"%logits: f32[1,4,50] = matmul(%x{layers}, %head)  @head", "return %logits"]
    return parse_graph("\n".join([*lines, *body]) + "\n")


def test_a_decoder_is_cut_before_between_and_after_its_layers() -> None:
    partition = MakePartition()(decoder(4))
    assert [s.block for s in partition.stages] == ["b0", "b1", "b1", "b1", "b1", "b2"]
    assert [len(partition.templates[b].ops) for b in ("b0", "b1", "b2")] == [1, 9, 1]


def test_equal_layers_share_a_template_and_keep_their_own_weights() -> None:
    partition = MakePartition()(decoder(3))
    layers = [s for s in partition.stages if s.block == "b1"]
    assert [s.bindings["up0"] for s in layers] == ["up0", "up1", "up2"]
    assert [s.bindings["x1"] for s in layers] == ["x1", "x2", "x3"]


def test_cheap_producers_are_cloned_into_every_stage_that_reads_them() -> None:
    graph = decoder(2)
    assert cheap_values(graph) == {"mask", "float", "gate"}
    partition = MakePartition()(graph)
    assert all("gate" not in partition.templates[s.block].inputs for s in partition.stages)
    assert partition.templates["b1"].inputs == ("seen", "x0")


def test_a_layer_that_differs_gets_a_block_of_its_own() -> None:
    odd = parse_graph(str(decoder(3)).replace("silu(%u1)", "relu(%u1)"))
    partition = MakePartition()(odd)
    assert [s.block for s in partition.stages] == ["b0", "b1", "b2", "b1", "b3"]


@pytest.mark.parametrize("stages", [1, 2, 3, 5, 8, 20])
def test_any_number_of_stages_covers_every_op_once(stages: int) -> None:
    graph = decoder(4)
    partition = MakePartition(stages)(graph)
    assert len(partition.stages) == stages
    cheap = cheap_values(graph)
    for i, stage in enumerate(partition.stages):
        template = partition.templates[stage.block]
        for name in template.inputs:
            value = stage.bindings[name]
            if value not in graph.inputs:
                assert partition.stages.index(partition.source[value][0]) < i
    templates = [partition.templates[s.block] for s in partition.stages]
    own = sum(len([op for op in t.ops if op.outputs[0] not in cheap]) for t in templates)
    assert own == len([op for op in graph.ops if op.outputs[0] not in cheap])


def test_more_stages_than_ops_are_refused_with_both_numbers() -> None:
    with pytest.raises(CompileError, match="999 stages asked for; the graph has 26 ops"):
        MakePartition(999)(decoder(4))


def test_a_cheap_value_that_is_an_output_is_computed_in_the_last_stage() -> None:
    graph = parse_graph(str(decoder(2)).replace("return %logits", "return %logits, %gate"))
    partition = MakePartition()(graph)
    assert partition.source["gate"][0] is partition.stages[-1]  # type: ignore[index]
