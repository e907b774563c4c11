"""Runs the tests that need a GPU and says how they went."""

import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 240  # those that compile take most of it; measuring needs the rest of ten minutes


def outcome() -> dict[str, Any]:
    """How many tests passed and were skipped, and what each failed one said last."""
    with tempfile.TemporaryDirectory() as temporary:
        report = Path(temporary) / "report.xml"
        command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", f"--junitxml={report}"]
        try:
            run = subprocess.run(command, cwd=ROOT, timeout=SECONDS, capture_output=True, text=True)
        except subprocess.TimeoutExpired:
            return {"failed": f"not done after {SECONDS} s"}
        if not report.is_file():
            return {"failed": (run.stderr or run.stdout).strip()[-300:]}
        cases = list(ET.parse(report).getroot().iter("testcase"))
    bad = {
        f"{case.get('classname')}::{case.get('name')}": fault.get("message", "")[-300:]
        for case in cases
        for fault in (*case.iter("failure"), *case.iter("error"))
    }
    skipped = sum(case.find("skipped") is not None for case in cases)
    found = {"passed": len(cases) - skipped - len(bad), "skipped": skipped}
    return found | ({"failed": bad} if bad else {})
