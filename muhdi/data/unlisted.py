"""Raw ids that no label table lists: counted while images are read, reported once per domain."""

from __future__ import annotations

from collections import Counter

from muhdi.data.sets import Unlisted

_NAMED = 8
"""Ids that a line names."""


class UnlistedIds:
    """Counts raw ids that a label table does not list, and reports each domain once.

    Attributes:
        files: domain -> image -> raw id, or colour -> pixels.
    """

    def __init__(self) -> None:
        self.files: dict[str, dict[str, Unlisted]] = {}
        self._reported: set[str] = set()

    def add(self, domain: str, name: str, counts: Unlisted) -> None:
        """``counts`` pixels by raw id, or colour, were met in the label of the image ``name``."""
        if counts:
            self.files.setdefault(domain, {})[name] = counts

    def merge(self, other: dict[str, dict[str, Unlisted]]) -> None:
        """Add the `files` of another."""
        for domain, files in other.items():
            self.files.setdefault(domain, {}).update(files)

    def report(self) -> list[str]:
        """A line for every domain that was not reported before."""
        lines = []
        for domain in sorted(self.files.keys() - self._reported):
            self._reported.add(domain)
            lines.append(self._line(domain))
        return lines

    def _line(self, domain: str) -> str:
        files = self.files[domain]
        total: Counter[str] = Counter()
        for counts in files.values():
            total.update(counts)
        # Shorter texts first, so that numbers come in their order.
        ids = sorted(total, key=lambda raw: (len(raw), raw))
        named = [f"{raw} ({total[raw]:,} pixels)" for raw in ids[:_NAMED]]
        more = ""
        if len(ids) > _NAMED:
            more = f" and {len(ids) - _NAMED} more"
        return (
            f"{domain}: raw ids that the label table does not list are ignored:"
            f" {', '.join(named)}{more}, in {len(files)} files so far, for example {min(files)}"
        )
