"""The workflow that runs the gate: what it may do, and the comment it writes, with GitHub's command replaced."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

WORKFLOW = yaml.safe_load((Path(__file__).parents[1] / ".github" / "workflows" / "bench.yml").read_text())
JOBS: dict[str, Any] = WORKFLOW["jobs"]


def test_only_the_job_that_runs_no_code_of_a_pull_request_may_write() -> None:
    assert WORKFLOW["permissions"] == {"contents": "read"}
    assert {name: job["permissions"] for name, job in JOBS.items() if "permissions" in job} == {
        "comment": {"pull-requests": "write"}
    }
    assert not any("checkout" in step.get("uses", "") for step in JOBS["comment"]["steps"])
    for job in JOBS.values():
        for step in job["steps"]:
            assert "${{" not in step.get("run", ""), "a stranger's text must not become a script"


@pytest.mark.skipif(not (shutil.which("jq") and shutil.which("bash")), reason="needs jq and bash, as on a runner")
@pytest.mark.parametrize("known", [True, False])
def test_the_comment_is_written_once_and_then_anew(known: bool, tmp_path: Path) -> None:
    (step,) = (step for step in JOBS["comment"]["steps"] if "run" in step)
    bot, marker = {"login": "github-actions[bot]"}, step["env"]["MARKER"]
    comments = [
        {"url": "https://a/1", "user": {"login": "someone"}, "body": f"{marker}\nmine"},
        {"url": "https://a/2", "user": bot, "body": "another workflow's"},
    ]
    comments += [{"url": "https://a/3", "user": bot, "body": f"{marker}\nold"}] * known
    (tmp_path / "comments.json").write_text(json.dumps(comments))
    (tmp_path / "gate.md").write_text("### new\n")
    gh = tmp_path / "bin" / "gh"
    gh.parent.mkdir()
    gh.write_text('#!/bin/sh\necho "$@" >> calls\ncase "$*" in *paginate*) cat comments.json;; esac\n')
    gh.chmod(0o755)
    environment = os.environ | {"PATH": f"{gh.parent}:{os.environ['PATH']}", "MARKER": marker, "COMMENTS": "repos/x"}
    subprocess.run(["bash", "-e", "-c", step["run"]], cwd=tmp_path, env=environment, check=True)
    target = "--method PATCH https://a/3" if known else "--method POST repos/x"
    assert (tmp_path / "calls").read_text().splitlines()[1:] == [f"api --silent {target} --field body=@comment.md"]
    assert (tmp_path / "comment.md").read_text() == f"{marker}\n### new\n"
