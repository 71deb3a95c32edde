"""Requests made from the server's own OpenAPI document, right ones and wrong ones."""

import subprocess
import sys

CHECKS = [
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
]


def test_replies_are_as_documented(server, tmp_path):
    url = f"http://{server.http}"
    done = subprocess.run(
        [sys.executable, "-m", "schemathesis.cli", "run", f"{url}/v2/openapi.json"]
        + ["--url", url, "--checks", ",".join(CHECKS), "--max-examples", "30"]
        + ["--phases", "examples,coverage,fuzzing", "--seed", "1"]
        + ["--suppress-health-check", "all"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
