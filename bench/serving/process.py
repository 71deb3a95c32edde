"""Processes of the benchmark: started in groups, watched through /proc, always ended."""

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

# Triton gives its requests 30 s to end.
STOP_LIMIT_S = 35
LOG_LINES = 30
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
HOST = "127.0.0.1"


def free_ports(count: int) -> list[int]:
    """Returns ports of the loopback interface that nobody listens on now."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind((HOST, 0))
        return [one.getsockname()[1] for one in sockets]


class Group:
    """A process and its descendants, in a process group of their own."""

    def __init__(self, command: list[str], log: Path, environment: dict[str, str]) -> None:
        """Starts the command; its output goes to the log file."""
        self.log = log
        with log.open("wb") as output:
            self.begun_s = time.perf_counter()
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **environment},
                start_new_session=True,
            )

    def check(self) -> None:
        """Raises if the process has ended, with the end of what it said."""
        status = self.process.poll()
        if status is not None:
            lines = self.log.read_text(errors="replace").strip().splitlines()
            text = "\n  ".join(line[:300] for line in lines[-LOG_LINES:])
            raise SystemExit(f"{self.process.args[0]} ended with {status}:\n  {text}")

    def stop(self) -> None:
        """Ends the whole group: politely, then by force."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(STOP_LIMIT_S)
        self.kill()

    def kill(self) -> None:
        """Ends the whole group at once."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(STOP_LIMIT_S)

    def members(self) -> Iterator[Path]:
        """Yields the /proc folders of the group's processes."""
        for folder in Path("/proc").iterdir():
            if folder.name.isdigit():
                with contextlib.suppress(OSError):
                    if stat_fields(folder)[2] == str(self.process.pid):
                        yield folder

    def cpu_s(self) -> float:
        """Returns the processor time that the group has used."""
        ticks = 0
        for folder in self.members():
            fields = stat_fields(folder)
            ticks += int(fields[11]) + int(fields[12])
        return ticks / TICKS_PER_S

    def peak_rss_bytes(self) -> int:
        """Returns the sum of the members' peak resident memory."""
        return sum(peak_rss_bytes(folder) for folder in self.members())


def stat_fields(folder: Path) -> list[str]:
    """Returns the fields of /proc/PID/stat from the third, the state, on."""
    return (folder / "stat").read_text().rpartition(")")[2].split()


def peak_rss_bytes(folder: Path) -> int:
    """Returns VmHWM of a process."""
    for line in (folder / "status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0


def wait_until(group: Group, is_done: Callable[[], bool], limit_s: float, pause_s: float) -> None:
    """Calls `is_done` until it returns true; raises if the group ends or the limit passes."""
    end = time.monotonic() + limit_s
    while not is_done():
        group.check()
        if time.monotonic() > end:
            raise SystemExit(f"{group.process.args[0]} did not answer within {limit_s} s")
        time.sleep(pause_s)
