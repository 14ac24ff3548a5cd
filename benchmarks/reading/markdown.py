"""Words from outside (names of runs and folders) in Markdown that we write."""

from html import escape


def plain(text: str) -> str:
    r"""Text that Markdown shows as it is: no HTML of its own, no column, no line.

    >>> plain("a|b <img src=x>")
    'a\\|b &lt;img src=x&gt;'
    """
    return escape(" ".join(text.split()), quote=False).replace("|", r"\|")
