"""A step that converts each line to upper case, as a function of one entry."""

from __future__ import annotations

from parcelq.step import step


@step(each=True)
def upper(entry: str) -> str:
    """Return the line in upper case."""
    return entry.upper()


if __name__ == "__main__":
    upper.main()
