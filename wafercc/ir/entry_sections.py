"""Entry sections: a program with its further entries as one manifest and one set of arrays, and back.

The manifest is that of the first entry. ``others`` lists the further ones: the same fields, but for those that all
entries share, which the first one has. Their arrays are called ``ENTRY@NAME``. A weight whose tiles the first entry
holds too names that entry's member, so tiles are stored once.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from .codec import Json, Malformed, as_list, as_object
from .program import PlacedProgram, WeightTiles
from .sections import Array, Manifest, Sections, put_together, take_apart

SHARED = ("model", "target", "defects", "options", "versions", "regions")
_SHARED_ARRAYS = ("embeddings", "detours", "detour-paths")


def take_apart_entries(program: PlacedProgram) -> Sections:
    """The manifest and arrays of a program with all its entries; of a single entry, those of `take_apart`."""
    first = take_apart(program)
    if not program.others:
        return first
    arrays, weights = dict(first.arrays), dict(first.weights)
    forms: list[Json] = []
    for other in program.others:
        sections = take_apart(other)
        form = {name: item for name, item in sections.manifest.items() if name not in SHARED}
        members = _members(program, other, first.manifest, sections.manifest)
        form["weights"] = {
            key: {**as_object(item, key), "member": members.get(key)}
            for key, item in as_object(form["weights"], "weights").items()
        }
        forms.append(form)
        own = as_object(sections.manifest["weights"], "weights")
        for key, member in members.items():
            weights.setdefault(member, sections.weights[str(as_object(own[key], key)["member"])])
        arrays |= {f"{other.entry}@{n}": a for n, a in sections.arrays.items() if n not in _SHARED_ARRAYS}
    return Sections({**first.manifest, "others": forms}, arrays, weights)


def _members(first: PlacedProgram, other: PlacedProgram, ours: Manifest, theirs: Manifest) -> dict[str, str]:
    """Weight key of a further entry → the member with its tiles: that of the first entry where it holds them too."""
    found: dict[str, str] = {}
    forms, own = as_object(ours["weights"], "weights"), as_object(theirs["weights"], "weights")
    for key, weight in other.weights.items():
        if weight.tiles is None:
            continue
        same = key in first.weights and first.weights[key].tiles is weight.tiles
        form = as_object(forms[key] if same else own[key], key)
        found[key] = str(form["member"]) if same else f"{other.entry}@{form['member']}"
    return found


def _with_tiles_of(
    first: PlacedProgram, other: PlacedProgram, ours: Manifest, theirs: Manifest
) -> dict[str, WeightTiles]:
    """The weights of a further entry, holding the very tiles of the first one where both name the same member."""
    forms, own = as_object(ours["weights"], "weights"), as_object(theirs["weights"], "weights")

    def same(key: str) -> bool:
        return key in forms and as_object(forms[key], key).get("member") == as_object(own[key], key).get("member")

    return {
        key: dataclasses.replace(weight, tiles=first.weights[key].tiles) if same(key) else weight
        for key, weight in other.weights.items()
    }


def put_together_entries(sections: Sections, graphs: Mapping[str, str], *, ignore_unknown: bool) -> PlacedProgram:
    """The program of its sections; ``graphs``: the provenance of each entry by name, of the first one under "".

    Raises:
        Malformed: the sections are not those of a program.
    """
    forms = as_list(sections.manifest.get("others", []), "others")
    own = {name: item for name, item in sections.manifest.items() if name != "others"}
    arrays = {name: array for name, array in sections.arrays.items() if "@" not in name}
    first = put_together(Sections(own, arrays, sections.weights), graphs.get("", ""), ignore_unknown=ignore_unknown)
    others: list[PlacedProgram] = []
    names = {first.entry}
    for i, item in enumerate(forms):
        form = as_object(item, f"others[{i}]")
        name = form.get("entry")
        if not isinstance(name, str) or name in names:
            raise Malformed(f"others[{i}].entry", "wanted a name that no other entry has")
        names.add(name)
        whole = {**{k: own[k] for k in SHARED}, **{k: v for k, v in form.items() if k not in SHARED}}
        mine: dict[str, Array] = {n: arrays[n] for n in _SHARED_ARRAYS if n in arrays}
        mine |= {n.partition("@")[2]: a for n, a in sections.arrays.items() if n.startswith(f"{name}@")}
        taken = Sections(whole, mine, sections.weights)
        other = put_together(taken, graphs.get(name, ""), ignore_unknown=ignore_unknown)
        weights = _with_tiles_of(first, other, own, form)
        others.append(dataclasses.replace(other, regions=first.regions, weights=weights))
    return dataclasses.replace(first, others=tuple(others))
