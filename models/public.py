"""What may be told to a client of an error that is not ours: its words, without the folders of this machine's disk.

Whoever asks over a network has no use for where things lie here. Logs have the whole.
"""

from __future__ import annotations

import re

_IN_QUOTES = re.compile(r"""(?P<quote>['"])/[^'"\n]*/(?P<name>[^'"\n/]*)(?P=quote)""")
_BARE = re.compile(r"""(?:(?<![\w./~#-])|(?<=file://))/(?:[^\s/'":,;()<>\[\]{}]+/)+(?P<name>[^\s/'":,;()<>\[\]{}]*)""")
"""Of two parts or more, and not within an address or a JSON pointer."""


def told(error: BaseException) -> str:
    """The kind of an error and its message."""
    return f"{type(error).__name__}: {without_folders(str(error))}"


def without_folders(text: str) -> str:
    """A text in which absolute paths are the names of their files alone."""
    text = _IN_QUOTES.sub(lambda found: f"{found['quote']}{found['name']}{found['quote']}", text)
    return _BARE.sub(lambda found: found["name"], text)
