"""Stage files with something wrong in them: one line that names the file, the line or the region or op, and the lever.
The lines are golden: read tests/golden/bad_stage_files.txt."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from stopped import home

from wafercc.cli.main import main

pytestmark = pytest.mark.pipeline
Golden = Callable[[str, str], None]

LAYER = "through @/model/layers"
SHARE = "elements 0-7 of dimension 2 from r0"
LANE = "lane colour 18 from port 0,8 west to r0 rows 0-7 trunk 0 gate 6 path 0,8"

# What is wrong: the stage file, words in it, and what takes their place.
WRONG: dict[str, tuple[str, str, str]] = {
    # the head
    "no stage file": ("place", "wafercc stage file 1", "wafercc stage file 2"),
    "unknown word": ("place", "option --region 8x8", "colour blue"),
    "unknown stage": ("place", "stage place", "stage plaec"),
    "unknown section": ("place", "[place]", "[plaec]"),
    "section twice": ("place", "[place]", "[partition]"),
    "section missing": ("embed", "[place]", "# [place]"),
    "section too late": ("place", "stage place", "stage partition"),
    "no model": ("place", "model ", "# model "),
    "unknown option": ("place", "option --region 8x8", "option --area 8x8"),
    "malformed constraint": ("place", "option --region 8x8", 'constraint mesh {"b0": {"rows": 8}}'),
    "unknown constraint": ("place", "option --region 8x8", "constraint colour 7"),
    "pinned elsewhere": ("place", "option --region 8x8", "option --region 8x8\noption --pin r0=9,0,8,8"),
    "malformed option": ("place", "option --region 8x8", "option --region 8"),
    "illegal option": ("place", "option --region 8x8", "option --stages 0"),
    "malformed shape": ("place", "option --region 8x8", 'like "input_ids" int64 4by4'),
    "unknown type": ("place", "option --region 8x8", 'like "input_ids" int65 1x4'),
    "malformed map": ("place", "option --region 8x8", "defects {}"),
    # import and rewrite
    "graph: syntax": ("rewrite", "= matmul(%/model/norm/Mul_152", "= matmul[%/model/norm/Mul_152"),
    "graph: no such weight": ("rewrite", "lm_head.weight", "head.weight"),
    "graph: another weight": ("rewrite", "lm_head.weight: f32[16,32]", "lm_head.weight: f32[16,33]"),
    "graph: unknown kind": ("rewrite", "swiglu(", "swishglu("),
    "graph: wrong type": ("import", "%logits: f32[1,4,32]", "%logits: f32[1,4,33]"),
    "graph: no end": ("rewrite", "return %logits", ""),
    # partition and size
    "partition: no such op": ("partition", "through @/lm_head/MatMul", "through @head"),
    "partition: backwards": ("partition", f"{LAYER}.1/mlp/Add_145", "through @/model/embed_tokens/Gather_13"),
    "partition: cheap op": ("partition", f"{LAYER}.0/mlp/Add_79", "through @/model/rotary_emb/MatMul_5"),
    "partition: too short": ("partition", "stage r3 through", "# stage r3 through"),
    "partition: wrong region": ("partition", "stage r3", "stage r4"),
    "partition: syntax": ("partition", "stage r3 through", "stage r3 up to"),
    "size: too large": ("size", "b0 8x8", "b0 8x19"),
    "size: unknown block": ("size", "b0 8x8", "b7 8x8"),
    "size: block missing": ("size", " b2 8x8", ""),
    "size: none": ("size", "plan", "# plan"),
    # place
    "place: overlap": ("place", "at 8x8+0+2", "at 9x9+0+2"),
    "place: outside": ("place", "at 9x8+9+10", "at 9x8+10+10"),
    "place: too small": ("place", "at 9x8+9+10", "at 7x8+9+10"),
    "place: dead": ("place", "at 9x9+9+1", "at 8x8+9+1"),
    "place: reach": ("place", "reach 2 detours 0", "reach 0 detours 0"),
    "place: unknown region": ("place", "region r0 8x8", "region r9 8x8"),
    "place: one too many": ("place", "region r0 8x8", "region r9 1x1 at 1x1+17+0\nregion r0 8x8"),
    "place: twice": ("place", "region r0 8x8", "region r1 8x8"),
    "place: meshes differ": ("place", "region r2 8x8", "region r2 8x4"),
    "place: another wafer": ("place", "8x8+0+2", "8x8+0+2@1"),
    "place: syntax": ("place", "region r0 8x8 at 8x8+0+2", "region r0 8x8 at 8x8"),
    "place: no number": ("place", "objective 51.0", "objective good"),
    # embed
    "embed: other rectangle": ("embed", "region r0 in 8x8+0+2", "region r0 in 9x8+0+2"),
    "embed: dead core": ("embed", "columns 0 2-8", "columns 0-7"),
    "embed: outside": ("embed", "columns 0-7", "columns 1-8"),
    "embed: backwards": ("embed", "columns 0 2-8", "columns 2-8 0"),
    "embed: too few": ("embed", "columns 0-7", "columns 0-6"),
    "embed: rows differ": ("embed", "row 4 columns 9-12 14-17", "row 4 columns 9-12 14-16"),
    "embed: no such row": ("embed", "row 7 columns", "row 8 columns"),
    "embed: reach": ("embed", "reach 2 detours 0", "reach 0 detours 0"),
    "embed: missing": ("embed", "region r0 in 8x8+0+2", "# region r0 in 8x8+0+2"),
    # layout
    "layout: unknown block": ("layout", "block b2", "block b7"),
    "layout: unknown op": ("layout", "op @/lm_head/MatMul n", "op @/head n"),
    "layout: unknown loop": ("layout", "MatMul n:y0*x0 m:x1", "MatMul q:y0*x0 m:x1"),
    "layout: unknown axis": ("layout", "MatMul n:y0*x0 m:x1", "MatMul n:y1*x0 m:x1"),
    "layout: axis twice": ("layout", "MatMul n:y0*x0 m:x1", "MatMul n:y0*x0 m:x0"),
    "layout: illegal cut": ("layout", "MatMul n:y0*x0 m:x1", "MatMul n:y0*x1 k:x0"),
    "layout: syntax": ("layout", "MatMul n:y0*x0 m:x1", "MatMul n=y0"),
    "layout: nothing": ("layout", "MatMul n:y0*x0 m:x1", "MatMul"),
    "layout: op missing": ("layout", 'op @/lm_head/MatMul n:y0*x0 m:x1\nwhy "rows=n', '# "'),
    "layout: reason without op": ("layout", "op @/lm_head/MatMul n:y0*x0 m:x1", ""),
    "layout: reason unreadable": ("layout", 'why "rows=n columns=n*m" own', 'why "rows=n columns=n*m" costs'),
    "layout: op twice": ("layout", "op @/lm_head/MatMul n", "op @/model/norm/Mul_152 n"),
    "layout: unknown value": ("layout", "share %input_ids", "share %ids"),
    "layout: no layout": ("layout", "share %input_ids (-,-)", "share %input_ids"),
    "layout: rank": ("layout", "share %input_ids (-,-)", "share %input_ids (-,-,-)"),
    "layout: partial": ("layout", "share %input_ids (-,-)", "share %input_ids (-,-) sum:y0"),
    "layout: value missing": ("layout", "share %input_ids (-,-)", ""),
    "layout: carried": ("layout", "Add_145 (-,-,y0)", "Add_145 (-,-,-)"),
    "layout: no way": ("layout", "share %input_ids (-,-)", "share %input_ids (-,x0)"),
    "layout: mesh": ("layout", "block b0 mesh y0=8 x0=2 x1=4", "block b0 mesh y0=8 x0=2 x1=2"),
    "layout: axis name": ("layout", "mesh y0=8 x0=8", "mesh z0=8 x0=8"),
    "layout: axis order": ("layout", "mesh y0=8 x0=8", "mesh x0=8 y0=8"),
    # route
    "route: unknown stream": ("route", 'stream "logits to host"', 'stream "logits to nowhere"'),
    "route: stream missing": ("route", 'stream "logits to host"', '# stream "logits to host"'),
    "route: stream twice": ("route", 'stream "logits to host"', 'stream "input_ids to r0"'),
    "route: colour": ("route", LANE, LANE.replace("18", "21")),
    "route: unknown region": ("route", LANE, LANE.replace("r0", "r7")),
    "route: wrong region": ("route", LANE, LANE.replace("r0", "r3")),
    "route: no port": ("route", LANE, LANE.replace("0,8 west", "0,7 west")),
    "route: no gate": ("route", LANE, LANE.replace("gate 6", "gate 8")),
    "route: not at the gate": ("route", LANE, LANE.replace("gate 6", "gate 5")),
    "route: bent": ("route", LANE, LANE + " 1,9"),
    "route: off the grid": ("route", LANE, LANE + " 18,8"),
    "route: colour taken": ("route", f"lane colour 20 {SHARE}", f"lane colour 0 {SHARE}"),
    "route: no lane": ("route", LANE, "in place"),
    "route: no yields": ("route", "yields", "# yields"),
    "route: region missing": ("route", "region r0 keeps", "# region r0 keeps"),
    "route: collectives": ("route", "region r0 keeps ", "region r0 keeps 1"),
    "route: syntax": ("route", LANE, LANE.replace("path", "way")),
    # schedule
    "schedule: unknown task": ("schedule", "run i0", "run i7"),
    "schedule: task twice": ("schedule", "run i0", "run i1"),
    "schedule: task missing": ("schedule", "run i0", ""),
    "schedule: region missing": ("schedule", "sram r0", "# sram r0"),
    "schedule: syntax": ("schedule", "run i0", "do i0"),
    "schedule: no number": ("schedule", "sram r0 weights 256", "sram r0 weights some"),
}


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of `home`."""
    return home(tmp_path_factory.mktemp("stopped"))


def test_each_wrong_line_is_one_clear_message(
    stopped: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], golden: Golden
) -> None:
    monkeypatch.chdir(stopped)
    lines = []
    for name, (stage, old, new) in WRONG.items():
        text = Path(f"tiny.{stage}.txt").read_text()
        assert old in text, name
        Path("wrong.txt").write_text(text.replace(old, new))
        code = main(["compile", "--from", "wrong.txt", "--cache-dir", "cache", "-o", "wrong.wafer"])
        out, err = capsys.readouterr()
        problem = [line for line in err.splitlines() if not line.startswith("reused")]
        assert (code, out, len(problem)) == (1, "", 1), (name, err)
        assert problem[0].startswith("error: wrong.txt") and "bug in wafercc" not in err, (name, err)
        assert not Path("wrong.wafer").exists()
        lines.append(f"{name}: {problem[0].removeprefix('error: ')}")
    golden("bad_stage_files", "\n".join(lines))


def test_a_file_that_is_not_there_or_not_text_is_refused(
    stopped: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(stopped)
    Path("head.txt").write_text(Path("tiny.place.txt").read_text().partition("\n[")[0])
    for name, message in (
        ("head.txt", "head.txt, line 12: the section [rewrite] is missing"),
        ("gone.txt", "gone.txt: no such file"),
        ("tiny.wafer", "tiny.wafer: cannot be read: 'utf-8' codec can't decode byte"),
        ("cache", "cache: cannot be read: "),
    ):
        assert main(["compile", "--from", name, "-o", "x.wafer"]) == 1
        assert message in capsys.readouterr().err
