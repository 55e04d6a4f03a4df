"""The part of a page that a script writes, between two markers that name both."""

__all__ = ["with_part"]


def with_part(page: str, name: str, script: str, part: str) -> str:
    """The page with the part made anew.

    Raises:
        ValueError: If a marker is missing.
    """
    begin, end = f"<!-- {name}: written by docs/{script} -->", f"<!-- end of {name} -->"
    before, begun, rest = page.partition(begin)
    _, ended, after = rest.partition(end)
    if not (begun and ended):
        raise ValueError(f"the markers {begin!r} and {end!r} are missing.")
    return f"{before}{begin}\n\n{part}\n\n{end}{after}"
