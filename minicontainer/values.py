"""Frozen records: what `@dataclass(frozen=True)` gives, without what it costs at import.

Layer: bottom (imports nothing of the package).

Every start of a container from the command line pays for every import. `dataclasses` pulls in `inspect`, `ast`, `re`
and more, 12 to 15 ms on the reference machine, and compiles source text for each class: about as long as everything
else that a start does. So the values on the road from an image to a process derive from `Value`; code off that road
(`lab`, `build`, tests) uses dataclasses.

    class Mount(Value):
        source: str
        target: str
        flags: int = 0

Fields are the annotations, in order, those of base classes first; a class attribute of the same name is the default.
Type checkers see a frozen dataclass.
"""

from __future__ import annotations

TYPE_CHECKING = False  # what typing.TYPE_CHECKING is, without importing typing (8 ms)
if TYPE_CHECKING:
    from typing import Any, Self, dataclass_transform
else:

    def dataclass_transform(**_: object) -> object:
        """Stand in for typing.dataclass_transform: at run time it only has to hand the class back."""
        return lambda cls: cls


@dataclass_transform(frozen_default=True)
class Value:
    """An immutable record, equal to another of its class with equal fields."""

    _fields: tuple[str, ...] = ()

    def __init_subclass__(cls) -> None:
        """Collect the fields of `cls`: inherited ones first, as in a dataclass."""
        own = [name for name in cls.__dict__.get("__annotations__", {}) if not name.startswith("_")]
        for name in own:
            if isinstance(getattr(cls, name, None), property):
                raise TypeError(f"{cls.__name__}: the field {name!r} would be hidden by a property of that name")
        cls._fields += tuple(name for name in own if name not in cls._fields)

    def __init__(self, *args: object, **kwargs: object) -> None:
        fields = self._fields
        if len(args) > len(fields):
            raise TypeError(f"{type(self).__name__} takes {len(fields)} values ({', '.join(fields)}), not {len(args)}")
        given = dict(zip(fields, args, strict=False))
        for name, value in kwargs.items():
            if name not in fields or name in given:
                raise TypeError(f"{type(self).__name__}: unexpected or repeated field {name!r}")
            given[name] = value
        for name in fields:
            if name not in given and not hasattr(type(self), name):
                raise TypeError(f"{type(self).__name__}: no value for field {name!r}")
        self.__dict__.update(given)

    def replace(self, **changes: Any) -> Self:
        """A copy with some fields changed."""
        return type(self)(**{**{name: getattr(self, name) for name in self._fields}, **changes})

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{type(self).__name__} is immutable: make a changed copy with replace({name}=…)")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"{type(self).__name__} is immutable")

    def _key(self) -> tuple[object, ...]:
        return tuple(getattr(self, name) for name in self._fields)

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return other._key() == self._key()

    def __hash__(self) -> int:
        return hash((type(self), self._key()))

    def __repr__(self) -> str:
        inside = ", ".join(f"{name}={getattr(self, name)!r}" for name in self._fields)
        return f"{type(self).__name__}({inside})"
