"""Raw ids that no label table lists.

Counted while images are read, and reported once per domain.
"""

from __future__ import annotations

from collections import Counter

from muhdi.data.sets import Unlisted


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
            files = self.files[domain]
            total: Counter[str] = Counter()
            for counts in files.values():
                total.update(counts)
            ids = ", ".join(
                f"{raw} ({pixels:,} pixels)"
                for raw, pixels in sorted(total.items(), key=lambda item: (len(item[0]), item[0]))[
                    :8
                ]
            )
            more = f" and {len(total) - 8} more" if len(total) > 8 else ""
            lines.append(
                f"{domain}: raw ids that the label table does not list are ignored: {ids}{more}, in"
                f" {len(files)} files so far, {min(files)} for one"
            )
        return lines
