"""Bind: give every dimension of every input a number, or an expression in ``n_past``.

Each open dimension has a symbol, and most have a role: batch, new tokens, past length, total length (past + new).
What the user fixed (shapes, arrays, symbols, roles) comes first, then what follows from it, then defaults; every
default is stated together with the flag that changes it. Exporters give caches of one model different symbols, and
masks symbols related to nothing, so roles are read from where a symbol stands, with its name as a second opinion.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from ..errors import ImportFailed
from ..ir.dims import Dim, affine, upper
from ..ir.dtypes import from_numpy
from .model import Assumption, Binding
from .nodes import InputSpec
from .roles import Role, roles_of, symbol_of, terms_of
from .states import State

DEFAULT_TOKENS = 64
DEFAULT_CONTEXT = 512
MOST = 1 << 20  # tokens or sequences: more than any machine holds, and their square is still counted exactly

_FLAGS = {Role.BATCH: "--batch", Role.NEW: "--new-tokens"}


@dataclass(frozen=True)
class Bound:
    """The shape of every input, the largest ``n_past``, what was assumed, and what looks contradictory.

    Doubts are no errors: a model may well take a mask longer than its cache. They are told if an op then fails.
    ``any_length``: the past is open to run time, and a default has said how many tokens are new.
    """

    shapes: Mapping[str, tuple[Dim, ...]]
    past_max: int
    assumptions: tuple[Assumption, ...]
    doubts: tuple[str, ...]
    any_length: bool = False


def bind(
    inputs: Sequence[InputSpec],
    states: Sequence[State],
    binding: Binding,
    positions: int | None = None,
    widths: Mapping[str, int] | None = None,
) -> Bound:
    """Shapes for all inputs. ``positions`` is how many the model knows, if it says so: no default is longer.
    ``widths``: symbols whose extents the model's weights show.

    Raises:
        ImportFailed: the user's shapes contradict the model or each other, name what does not exist, or leave a
        dimension
            open that has no default.
    """
    table = _Table(inputs, states, MOST if positions is None else positions)
    table.fix(binding)
    for symbol, width in (widths or {}).items():
        table.values.setdefault(symbol, width)
        table.origins.setdefault(symbol, "the model's weights")
    past_max = table.settle(binding)
    table.check_extents()
    assumed = any(a.text.startswith(f"{Role.NEW} =") for a in table.assumptions)
    return Bound(table.shapes(), past_max, tuple(table.assumptions), tuple(table.doubts()), assumed and past_max > 0)


@dataclass
class _Table:
    """The symbols of one model while they are being bound."""

    inputs: Sequence[InputSpec]
    states: Sequence[State]
    positions: int = MOST
    values: dict[str, Dim] = field(default_factory=dict)
    origins: dict[str, str] = field(default_factory=dict)
    assumptions: list[Assumption] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.roles = roles_of(self.inputs, self.states)
        self.by_role: dict[Role, Dim] = {}

    # --- what the user fixed

    def fix(self, binding: Binding) -> None:
        specs = {spec.name: spec for spec in self.inputs}
        like = binding.inputs_like or {}
        for name, shape in [*binding.shapes.items(), *((n, tuple(a.shape)) for n, a in like.items())]:
            if name not in specs:
                raise ImportFailed(f"the model has no input {name}", hint=f"its inputs: {', '.join(specs)}")
            self._fix_shape(specs[name], shape)
        for name, array in like.items():
            try:
                given = from_numpy(array.dtype)
            except KeyError:
                raise ImportFailed(
                    f"is given as {array.dtype}, which is not supported", where=f"input {name}"
                ) from None
            if given != specs[name].dtype:
                raise ImportFailed(f"is given as {given}, the model wants {specs[name].dtype}", where=f"input {name}")
        symbols = {symbol for _, _, symbol in self._slots() if isinstance(symbol, str)}
        for symbol, value in binding.dims.items():
            named = {s for s in symbols if s == symbol or symbol in terms_of(s)}
            if not named:
                known = ", ".join(sorted(symbols)) or "none"
                raise ImportFailed(f"the model has no dimension called {symbol}", hint=f"its symbols: {known}")
            self._set(symbol, value, f"--dim {symbol}={value}")

    def _fix_shape(self, spec: InputSpec, shape: tuple[int, ...]) -> None:
        where = f"input {spec.name}"
        if len(shape) != len(spec.dims):
            raise ImportFailed(
                f"has rank {len(spec.dims)}, the shape given has {len(shape)}: {_text(shape)}", where=where
            )
        for axis, (dim, extent) in enumerate(zip(spec.dims, shape, strict=True)):
            if extent < 0:
                raise ImportFailed(f"cannot have the negative extent {extent} in dimension {axis}", where=where)
            if isinstance(dim, int):
                if dim != extent:
                    raise ImportFailed(
                        f"dimension {axis} is {dim} in the model, the shape given has {extent}", where=where
                    )
                continue
            self._set(symbol_of(spec, axis), int(extent), f"input {spec.name} dimension {axis}")

    def _set(self, symbol: str, value: Dim, origin: str) -> None:
        if symbol in self.values and self.values[symbol] != value:
            raise ImportFailed(
                f"the dimension {symbol} is {value} in {origin}, but {self.values[symbol]} in {self.origins[symbol]}",
                hint="give shapes that agree",
            )
        self.values[symbol] = value
        self.origins.setdefault(symbol, origin)

    # --- what follows, and defaults

    def settle(self, binding: Binding) -> int:
        """Values for all roles, then for all symbols; gives the largest n_past."""
        for symbol, role in self.roles.items():
            if symbol in self.values:
                self.by_role.setdefault(role, self.values[symbol])
        self._wish(Role.BATCH, binding.batch)
        self._wish(Role.NEW, binding.new_tokens)
        self._derive()
        self._default(Role.BATCH, 1)
        past_max = self._settle_lengths(binding)
        for symbol, role in self.roles.items():
            if symbol not in self.values and role in self.by_role:
                self._set(symbol, self.by_role[role], f"the {role}")
        for spec, axis, dim in self._slots():
            if isinstance(dim, str):
                self._settle_symbol(spec, axis, dim)
        return past_max

    def _wish(self, role: Role, wish: int | None) -> None:
        flag = _FLAGS[role]
        if wish is None:
            return
        if wish < 1:
            raise ImportFailed(f"cannot have {wish} as {role}", hint=f"give {flag} a number of 1 or more")
        have = self.by_role.setdefault(role, wish)
        if have != wish:
            raise ImportFailed(
                f"the {role} is {have} in the shapes given, but {flag} says {wish}", hint="give one of them"
            )

    def _derive(self) -> None:
        """total = past + new: the third follows from two of them."""
        get = self.by_role.get
        new, past, total = get(Role.NEW), get(Role.PAST), get(Role.TOTAL)
        if not self.states:
            if new is None and total is not None:
                self.by_role[Role.NEW] = total
            return
        if total is not None and past is None and new is not None:
            self.by_role[Role.PAST] = total - new
        elif total is not None and new is None and past is not None:
            self.by_role[Role.NEW] = total - past
        for role in (Role.PAST, Role.NEW):
            value = self.by_role.get(role)
            if isinstance(value, int) and value < 0:
                raise ImportFailed(
                    f"the {Role.TOTAL} {total} is less than the {Role.NEW} {new} and {Role.PAST} {past} given",
                    hint="give shapes that agree",
                )

    def _settle_lengths(self, binding: Binding) -> int:
        """New, past and total length; gives the largest n_past (0 where the past is a number)."""
        if not self.states:
            self._default(Role.NEW, min(DEFAULT_TOKENS, self.positions))
            self.by_role.setdefault(Role.TOTAL, self.by_role[Role.NEW])
            if binding.context is not None:
                text = f"the model has no cache: the context of {binding.context} is not used"
                self.assumptions.append(Assumption(text, "leave out --context"))
            return 0
        self._default(Role.NEW, 1)
        new, past_max = self.by_role[Role.NEW], 0
        assert isinstance(new, int)
        if any(state.fixed for state in self.states):
            self._fixed_capacity(binding, new)
        if all(state.fixed for state in self.states):
            return 0
        if Role.PAST not in self.by_role:
            past_max = self._capacity(binding, new)
            self.by_role[Role.PAST] = affine(1, 0, past_max)
        elif self._is_buffer(binding):
            past_max = self._capacity(binding, new)
            self.by_role[Role.TOTAL] = affine(1, new, past_max)
        self.by_role.setdefault(Role.TOTAL, self.by_role[Role.PAST] + new)
        return past_max

    def _is_buffer(self, binding: Binding) -> bool:
        """Whether the caches are buffers of a given extent, and the total length grows up to the context in them."""
        past = self.by_role[Role.PAST]
        room = binding.context is not None and isinstance(past, int) and binding.context <= past
        return room and Role.TOTAL in self.roles.values() and Role.TOTAL not in self.by_role

    def _fixed_capacity(self, binding: Binding, new: int) -> None:
        """The extent of caches that have all their capacity at once; masks are as long, where nothing else is said."""
        if Role.CAPACITY in self.roles.values() and Role.CAPACITY not in self.by_role:
            context = binding.context
            if context is None:
                context = max(min(DEFAULT_CONTEXT, self.positions), new)
                self.assumptions.append(Assumption(f"the caches have room for {context} tokens", "--context N"))
            if context < new:
                raise ImportFailed(_small(context, new), hint="give a larger --context")
            self.by_role[Role.CAPACITY] = context
        if all(state.fixed for state in self.states):
            capacity = self.by_role.get(Role.CAPACITY, self._declared_capacity())
            self.by_role.setdefault(Role.PAST, capacity)
            self.by_role.setdefault(Role.TOTAL, capacity)

    def _declared_capacity(self) -> int:
        """The smallest capacity that the model itself gives its caches."""
        axes = {state.input: state.axis for state in self.states}
        found = [d for s in self.inputs if s.name in axes and isinstance(d := s.dims[axes[s.name]], int)]
        return min(found, default=DEFAULT_CONTEXT)

    def _capacity(self, binding: Binding, new: int) -> int:
        context = binding.context
        if context is None:
            context = max(min(DEFAULT_CONTEXT, self.positions), new)
            known = ", the positions that the model knows" if context == self.positions else ""
            text = f"the cache holds up to {context - new} tokens before the {new} new (context {context}{known})"
            self.assumptions.append(Assumption(text, "--context N, or --shape with the past's length"))
        if context < new:
            raise ImportFailed(_small(context, new), hint="give a larger --context")
        return context - new

    def _default(self, role: Role, value: int) -> None:
        if role in self.by_role:
            return
        self.by_role[role] = value
        symbols = [symbol for symbol, r in self.roles.items() if r is role]
        if symbols:
            shown = f"--dim {symbols[0]}=N" if "[" not in symbols[0] else f"{_FLAGS[role]} N"
            self.assumptions.append(Assumption(f"{role} = {value}", shown))

    def _settle_symbol(self, spec: InputSpec, axis: int, symbol: str) -> None:
        """Check an expression of symbols against its value, or take its value from it."""
        computed = _evaluate(symbol, self.values) if symbol not in terms_of(symbol) else None
        if computed is not None:
            self._set(symbol, computed, f"input {spec.name} dimension {axis}")
        if symbol not in self.values:
            example = "x".join(str(d) if isinstance(d, int) else "N" for d in spec.dims)
            raise ImportFailed(
                f"dimension {axis} ({symbol}) has no value and no default",
                where=f"input {spec.name}",
                hint=f"give --dim {symbol}=N or --shape {spec.name}={example}",
            )

    def shapes(self) -> dict[str, tuple[Dim, ...]]:
        return {
            spec.name: tuple(
                dim if isinstance(dim, int) else self.values[symbol_of(spec, axis)]
                for axis, dim in enumerate(spec.dims)
            )
            for spec in self.inputs
        }

    def check_extents(self) -> None:
        """Hold that a run takes in something, and no more than any machine could."""
        for spec, axis, symbol in self._slots():
            if not isinstance(symbol, str):
                continue
            value, role = self.values[symbol], self.roles.get(symbol)
            where = f"input {spec.name}"
            if value == 0 and role in (Role.BATCH, Role.NEW):
                raise ImportFailed(
                    f"dimension {axis} ({symbol}) is 0; a run takes in at least one sequence of one token",
                    where=where,
                    hint="only a past may be empty",
                )
            if upper(value) > MOST:
                raise ImportFailed(
                    f"dimension {axis} ({symbol}) is {upper(value)}; the largest supported is {MOST}",
                    where=where,
                    hint="give fewer tokens, sequences or a shorter context",
                )

    def doubts(self) -> Iterator[str]:
        """Inputs that count one thing differently."""
        for role in Role:
            counts: dict[Dim, str] = {}
            for spec, axis, symbol in self._slots():
                if isinstance(symbol, str) and self.roles.get(symbol) is role:
                    counts.setdefault(self.values[symbol], f"{self.values[symbol]} in {spec.name} dimension {axis}")
            if len(counts) > 1:
                yield f"the {role} is {' but '.join(counts.values())}"
        parts = [self.by_role.get(role) for role in (Role.PAST, Role.NEW, Role.TOTAL)]
        if Role.PAST in self.roles.values() and None not in parts:
            past, new, total = (part for part in parts if part is not None)
            if past + new != total:
                yield f"the total length is {total}, but past {past} and new {new} make {past + new}"

    def _slots(self) -> Iterator[tuple[InputSpec, int, int | str]]:
        for spec in self.inputs:
            for axis, dim in enumerate(spec.dims):
                yield spec, axis, dim if isinstance(dim, int) else symbol_of(spec, axis)


def _evaluate(symbol: str, values: Mapping[str, Dim]) -> Dim | None:
    """The value of a sum of symbols and numbers, if all of them have values."""
    total: Dim = 0
    for part in (part.strip() for part in symbol.split("+")):
        if part.isdigit():
            total = total + int(part)
        elif part in values:
            total = total + values[part]
        else:
            return None
    return total


def _small(context: int, new: int) -> str:
    return f"the context of {context} is less than the {new} new tokens"


def _text(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "a scalar"
