"""The types that settings have, with their bounds."""

from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field

from wire.message import DIRECTIVES


def _number(value: Any) -> Any:
    """`in_flight = true` is a mistake, and would be taken for 1."""
    if isinstance(value, bool):
        raise ValueError("expected a number")  # noqa: TRY004 - pydantic reports only ValueError
    return value


Number = BeforeValidator(_number)
Seconds = Annotated[float, Number, Field(gt=0, le=31_536_000, allow_inf_nan=False)]
NotNegative = Annotated[float, Number, Field(ge=0, le=31_536_000, allow_inf_nan=False)]
Count = Annotated[int, Number, Field(ge=1, le=1_000_000)]
Bytes = Annotated[int, Number, Field(ge=1024, le=512 << 20)]


def _listed(value: Any) -> Any:
    """A list may be written `text,lang` where there is only text to write it in."""
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


# An empty selection would give every payload one key, and so one answer: a variable left empty must not.
Fields = Annotated[tuple[str, ...], BeforeValidator(_listed), Field(min_length=1)]


def _known_directive(value: str) -> str:
    if value not in DIRECTIVES:
        raise ValueError(f"expected some of: {', '.join(DIRECTIVES)}")
    return value


Directive = Annotated[str, AfterValidator(_known_directive)]
Directives = Annotated[tuple[Directive, ...], BeforeValidator(_listed)]
