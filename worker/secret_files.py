"""URLs that a file holds: `broker_url_file` and `cache_url_file` in one layer of settings."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from broker.secret_file import read_secret

SUFFIX = "_file"
URLS = ("broker_url", "cache_url")


def with_secrets(layer: Mapping[str, Any], problems: list[str], shown: Mapping[str, str]) -> dict[str, Any]:
    """`layer` with the URL in the place of the file that holds it; `shown` says where each name was found.

    Both in one layer is a mistake. In different layers the later one wins, as with every setting: a variable
    that names a file replaces the URL of recollect.toml, and the other way round.
    """
    found = dict(layer)
    for url in URLS:
        path = found.get(url + SUFFIX)
        if not path:  # an empty variable is what a template writes for one that nobody set
            found.pop(url + SUFFIX, None)
            continue
        if found.get(url):
            problems.append(f"{shown[url]}: `{url}` is set, and `{url}{SUFFIX}` too: which of them?")
            continue
        try:
            found[url] = read_secret(Path(str(path)))
        except ValueError as error:
            problems.append(f"{shown[url + SUFFIX]}: `{url}{SUFFIX}`: {error}")
            found[url] = "embedded:"  # nothing starts; that it is not set would be a second complaint
    return found
