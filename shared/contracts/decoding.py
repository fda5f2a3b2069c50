"""Decode fast, judge exactly: a typed msgspec struct made from each pydantic contract for the good path, the contract itself for the rest.

The struct is derived, so there is one definition. Whatever the fast path takes, the contract would take too, with equal
attributes (a property test holds the two together); whatever it does not take goes to the contract, whose verdict counts.
"""

import types
from collections.abc import Callable
from datetime import date, datetime
from typing import Annotated, Literal, TypeVar, Union, cast, get_args, get_origin
from uuid import UUID

import annotated_types
import msgspec
from pydantic import BaseModel
from pydantic.fields import FieldInfo

M = TypeVar("M", bound=BaseModel)


def decoder(model: type[M]) -> Callable[[bytes], M]:
    """Make the decoder of a contract.

    Returns:
        A function from the bytes of `data` to a value with the attributes of `model`.
        It raises `pydantic.ValidationError` with every reason when the contract refuses.
    """
    fast = msgspec.json.Decoder(struct_of(model))

    def decode(data: bytes) -> M:
        try:
            str(data, "utf-8")  # msgspec skips unknown fields without looking at their bytes; the contract does not
            return cast("M", fast.decode(data))
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            # A timestamp without offset and the like end here too: rare, and the contract knows what to do.
            return model.model_validate_json(data)

    return decode


def struct_of(model: type[BaseModel]) -> type[msgspec.Struct]:
    """Derive the frozen struct with the fields and constraints of a contract.

    Raises:
        TypeError: the contract uses a type that has no fast form; extend `_fast_type` or choose another type.
    """
    fields: list[tuple[str, object] | tuple[str, object, object]] = []
    for name, field in model.model_fields.items():
        fast = _constrained(_fast_type(field.annotation), field)
        fields.append((name, fast) if field.is_required() else (name, fast, field.get_default()))
    # Required fields first: a struct is built like a function signature.
    fields.sort(key=len)
    return msgspec.defstruct(model.__name__, cast("list[tuple[str, type]]", fields), frozen=True)


def _fast_type(annotation: object) -> object:
    origin = get_origin(annotation)
    if origin is Annotated:
        inner, *metadata = get_args(annotation)
        return _with_metadata(_fast_type(inner), metadata)
    if origin in (Union, types.UnionType):
        return Union[tuple(_fast_type(part) for part in get_args(annotation))]  # noqa: UP007  (built from a tuple)
    if origin is tuple:
        item, _ = get_args(annotation)
        return tuple[_fast_type(item), ...]  # type: ignore[misc]
    if origin is Literal or annotation in (str, int, bool, date, UUID, type(None)):
        return annotation
    if annotation is datetime:
        return Annotated[datetime, msgspec.Meta(tz=True)]
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return struct_of(annotation)
    if getattr(annotation, "__name__", "") == "AwareDatetime":
        return Annotated[datetime, msgspec.Meta(tz=True)]
    raise TypeError(f"no fast form for {annotation!r}")


def _constrained(fast: object, field: FieldInfo) -> object:
    return _with_metadata(fast, field.metadata)


def _with_metadata(fast: object, metadata: "list[object]") -> object:
    """Carry lengths, bounds and patterns over; validators that only rewrite what msgspec would refuse need no twin."""
    found: dict[str, object] = {}
    for item in metadata:
        match item:
            case annotated_types.MinLen(min_length=least):
                found["min_length"] = least
            case annotated_types.MaxLen(max_length=most):
                found["max_length"] = most
            case annotated_types.Ge(ge=least):
                found["ge"] = least
            case annotated_types.Le(le=most):
                found["le"] = most
            case _:
                for name in ("min_length", "max_length", "pattern", "ge", "le"):
                    if getattr(item, name, None) is not None:
                        found[name] = getattr(item, name)
    if isinstance(pattern := found.get("pattern"), str):
        # In Python `$` also matches before a line break at the end, in the contract's engine it does not.
        found["pattern"] = pattern.removesuffix("$") + r"\Z"
    return Annotated[fast, msgspec.Meta(**found)] if found else fast  # type: ignore[call-overload]
