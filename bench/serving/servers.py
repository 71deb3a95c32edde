"""How each server is started: the way its own documents say, everything on the loopback."""

import contextlib
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from serving.process import HOST, Group, free_ports, wait_until

HERE = Path(__file__).resolve().parent
READY_LIMIT_S = 60
MAX_BATCH = 8
TRITON_CONFIG = f"""\
name: "identity"
backend: "python"
max_batch_size: {MAX_BATCH}
input [{{ name: "x" data_type: TYPE_FP32 dims: [4] }}]
output [{{ name: "y" data_type: TYPE_FP32 dims: [4] }}]
instance_group [{{ kind: KIND_CPU count: 1 }}]
dynamic_batching {{}}
"""


@dataclass
class Server:
    """A running server."""

    name: str
    group: Group
    http: tuple[str, int]
    grpc: tuple[str, int] | None = None

    def wait(self, answers: Callable[[tuple[str, int]], bool]) -> None:
        """Waits until the server gives the right answer."""
        wait_until(self.group, lambda: answers(self.http), READY_LIMIT_S, 0.05)


@dataclass
class Programs:
    """Where the servers' programs are."""

    landfall: Path
    triton_python: Path | None

    def check(self) -> None:
        """Raises, with the command that installs what is missing."""
        if not self.landfall.exists():
            raise SystemExit(f"{self.landfall} does not exist: cargo build --release")
        if self.triton_python and not self.tritonserver().exists():
            raise SystemExit(
                f"no Triton beside {self.triton_python}: "
                f"{self.triton_python} -m pip install -r bench/requirements-triton.txt"
            )

    def packages(self) -> Path:
        """Returns the packages folder of the environment that Triton is installed in."""
        # Not resolved: the interpreter of an environment is a link out of it.
        environment = self.triton_python.absolute().parent.parent
        found = sorted(environment.glob("lib/python3*/site-packages"))
        return found[-1] if found else environment

    def tritonserver(self) -> Path:
        """Returns Triton's binary."""
        return self.packages() / "pytriton" / "tritonserver" / "bin" / "tritonserver"


def landfall(programs: Programs, model: Path, work: Path) -> Server:
    """Starts Landfall with a model file, all settings as they come."""
    http, grpc, admin = free_ports(3)
    command = [str(programs.landfall), "serve", str(model), "--log-level", "warn"]
    for name, port in [("--http", http), ("--grpc", grpc), ("--admin", admin)]:
        command += [name, f"{HOST}:{port}"]
    group = Group(command, work / f"landfall-{http}.log", {})
    return Server("landfall", group, (HOST, http), (HOST, grpc))


def fastapi(app: str, model: Path, work: Path) -> Server:
    """Starts one of the FastAPI apps of this folder under uvicorn, in one process."""
    (http,) = free_ports(1)
    command = [sys.executable, "-m", "uvicorn", "--app-dir", str(HERE), f"{app}:app"]
    command += ["--host", HOST, "--port", str(http), "--no-access-log", "--log-level", "warning"]
    group = Group(command, work / f"fastapi-{http}.log", {"MODEL": str(model)})
    return Server("fastapi", group, (HOST, http))


def triton(programs: Programs, work: Path) -> Server:
    """Starts Triton with the identity model on its Python backend."""
    root = programs.tritonserver().parent.parent
    lay_out_triton(root, work)
    http, grpc = free_ports(2)
    command = [
        str(programs.tritonserver()),
        f"--model-repository={work / 'triton' / 'models'}",
        f"--backend-directory={work / 'triton' / 'backends'}",
        f"--cache-directory={root / 'caches'}",
        *(f"--http-address={HOST}", f"--http-port={http}"),
        *(f"--grpc-address={HOST}", f"--grpc-port={grpc}"),
        "--allow-metrics=false",
    ]
    # The backend's stub imports numpy from the environment of the python3 it finds first.
    python = programs.triton_python.absolute().parent
    environment = {
        "LD_LIBRARY_PATH": str(programs.packages() / "nvidia_pytriton.libs"),
        "PATH": f"{python}{os.pathsep}{os.environ['PATH']}",
    }
    group = Group(command, work / f"triton-{http}.log", environment)
    return Server("triton", group, (HOST, http), (HOST, grpc))


def lay_out_triton(root: Path, work: Path) -> None:
    """Writes the model repository, and the backend folder with this Python's stub beside it."""
    version = work / "triton" / "models" / "identity" / "1"
    version.mkdir(parents=True, exist_ok=True)
    (version.parent / "config.pbtxt").write_text(TRITON_CONFIG)
    shutil.copy(HERE / "triton_identity.py", version / "model.py")
    backend = work / "triton" / "backends" / "python"
    backend.mkdir(parents=True, exist_ok=True)
    stub = root / "python_backend_stubs" / f"{sys.version_info[0]}.{sys.version_info[1]}"
    for file in [*(root / "backends" / "python").glob("*.*"), *stub.iterdir()]:
        with contextlib.suppress(shutil.SameFileError):
            shutil.copy(file, backend)
            (backend / file.name).chmod(0o755)
