"""A secret in a file, as Docker, Kubernetes and systemd hand them out."""

from pathlib import Path

_MOST_BYTES = 65_536


def read_secret(path: Path) -> str:
    """The one line of the file. Raises ValueError, which names the file and shows nothing of it."""
    try:
        with path.open("rb") as opened:
            found = opened.read(_MOST_BYTES + 1)
        text = found.decode("utf-8").strip()
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not UTF-8 text") from None
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be read: {reason(error)}") from None
    if not text:
        raise ValueError(f"{path} is empty")
    if len(found) > _MOST_BYTES or len(text.splitlines()) > 1:
        raise ValueError(f"{path} has more than one line")
    return text


def reason(error: Exception) -> str:
    """What the system says of a file, in its plain form."""
    said = getattr(error, "strerror", None) or str(error)
    return f"{said[:1].lower()}{said[1:]}"
