"""What a page says of the machine that its figures are from."""

import os
import platform
from pathlib import Path


def machine() -> str:
    """Describes the processor."""
    names = [
        line.split(":", 1)[1].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    return f"{names[0] if names else platform.machine()}, {os.cpu_count()} cores"
