"""Text of others, made safe to print. Nothing here imports TensorFlow."""


def printable(text: str, *, keep: str = "") -> str:
    r"""Escape whatever is not printable, so that a terminal finds nothing to obey.

    Args:
        text: any text, also with lone surrogates, as names of files have that are no UTF-8.
        keep: characters to leave as they are, such as the newlines of a message of several lines.

    Example:
        >>> printable("a\x1b[2J\udcff\n")
        'a\\x1b[2J\\udcff\\n'
    """
    return "".join(
        letter if letter.isprintable() or letter in keep else letter.encode("unicode_escape", "surrogatepass").decode()
        for letter in text
    )
