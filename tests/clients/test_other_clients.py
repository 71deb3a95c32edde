"""Clients that define the protocol's messages themselves, each in a process of its own: protobuf
allows one definition a process."""

import os
import pathlib
import subprocess
import sys

import pytest

HERE = pathlib.Path(__file__).resolve().parent


@pytest.mark.parametrize("cases", ["cases_open_inference_grpc.py", "cases_kserve.py"])
def test_client(server, cases):
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", str(HERE / cases)],
        env={**os.environ, "LANDFALL_TEST_SERVER": f"{server.http},{server.grpc},{server.admin}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
