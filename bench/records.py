"""What has been measured so far, in a file, so that a long comparison can be made in parts.

A part ends between two lines of the suite: all rounds of all engines on one line are interleaved in
one part. Records made under other settings are refused.
"""

import json
from pathlib import Path


class Records:
    """Medians by line and number of threads; kept in a file if there is one."""

    def __init__(self, path: Path | None, settings: dict):
        """Reads what an earlier part wrote."""
        self.path, self.settings, self.found = path, settings, {}
        if path is None or not path.exists():
            return
        known = json.loads(path.read_text())
        if known["settings"] != settings:
            raise SystemExit(f"{path} has other settings: {known['settings']}, now {settings}")
        self.found = known["found"]

    def get(self, line: dict, threads: int) -> dict | None:
        """Returns the engines' medians, if they are known."""
        return self.found.get(key(line, threads))

    def add(self, line: dict, threads: int, results: dict) -> None:
        """Keeps the engines' medians."""
        self.found[key(line, threads)] = results
        if self.path is not None:
            known = {"settings": self.settings, "found": self.found}
            self.path.write_text(json.dumps(known, indent=1) + "\n")


def key(line: dict, threads: int) -> str:
    """Names a measurement of one line."""
    return f"{line['inputs']}, {threads}"
