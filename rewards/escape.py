"""Words that come from elsewhere (a server, a plug-in, a file's name), made fit to be shown and compared."""

import re

# Control characters but for tab and newline, which steer a terminal; marks that turn the direction of writing; halves
# of characters, which no encoding takes.
_ODD = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")


def escape_controls(text: str) -> str:
    """The text with what would act on a terminal, in place of being read, written out.

    >>> escape_controls("red: \\x1b[31mok")
    'red: \\\\x1b[31mok'
    """
    return _ODD.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def without_addresses(text: str) -> str:
    """The same, without addresses in memory: an equal cause gives an equal text on every day.

    >>> without_addresses("cannot identify image file <_io.BytesIO object at 0x7f12ab>")
    'cannot identify image file <_io.BytesIO object>'
    """
    return _ADDRESS.sub("", escape_controls(text))
