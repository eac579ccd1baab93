"""A trainer without a model: does what the plan says for its stage and attempt, and leaves the real one's files.

Plan: {"fine_tune": {"1": "crash", "2": "ok"}, ...}; what is not in it goes well. Deeds: ok, crash (after the
checkpoint of step 4), killed, bad_data, broken (5xx), hang (until told to stop; saves), stuck (ignores SIGTERM),
fail (score, certify: verdict fail), unrepaired (score only: fail, unless it was repaired), no_verdict,
other_adapter, whole, whole_unrepaired (score only: fail, and unrepaired, with a report by the published schema),
flag (screen only: rows 1 and 2), foreign (screen only: row 1 is flagged, row 3 unscored, row 2 both).
"""

import hashlib
import json
import os
import signal
import sys
import time
from pathlib import Path

TOTAL = 8


def main(spec_file: Path) -> int:
    spec = json.loads(spec_file.read_text())
    stage, arguments = spec["stage"], spec["arguments"]
    out = Path(arguments["out"])
    out.mkdir(parents=True, exist_ok=True)
    attempt = spec_file.parent.name.removeprefix("attempt-")
    plan = json.loads(Path(os.environ["FAKE_PLAN"]).read_text())
    deed = plan.get(stage, {}).get(attempt, "ok")
    with Path(os.environ["FAKE_PLAN"]).with_name("runs.jsonl").open("a") as log:
        log.write(json.dumps({**spec, "attempt": attempt, "pid": os.getpid()}) + "\n")
    if deed in ("bad_data", "broken"):
        error = {"code": "invalid_training_file", "message": "Row 3 is too long.", "param": "training_file"}
        details = [{"line": 3, "path": "", "code": "row_too_long", "message": "Shorten it."}]
        if deed == "broken":
            error = {"code": "scoring_failed", "message": "The judge failed.", "param": None}
            details = []
        (out / "error.json").write_text(json.dumps({**error, "details": details}))
        return 65 if deed == "bad_data" else 1
    runs = (align, certify, fine_tune, repair, screen, score)
    return next(run for run in runs if run.__name__ == stage)(deed, out, arguments)


def steps(deed: str, out: Path, arguments: dict) -> int | None:
    """Run TOTAL steps with a checkpoint at 4; the exit status if that is the end."""
    resumed = arguments.get("resume_from")
    first = int(Path(resumed).name.removeprefix("checkpoint-")) + 1 if resumed else 1
    metrics = out / "metrics.jsonl"
    kept = (Path(resumed) / "metrics.jsonl").read_text() if resumed else ""
    metrics.write_text(kept)
    for step in range(first, TOTAL + 1):
        row = {"t": time.time(), "stage": "training", "step": step, "total": TOTAL, "loss": 1 / step}
        validation = {name: row[name] for name in ("t", "step", "total")} | {"valid_loss": 2 / step}
        with metrics.open("a") as lines:
            lines.write((json.dumps(validation) + "\n") * (step % 4 == 0) + json.dumps(row) + "\n")
        if step == 4:
            checkpoint(out, step, metrics)
        if step == 6 and deed == "crash":
            raise RuntimeError("the user wrote SECRET")
        if step == 6 and deed == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if step == 6 and deed in ("hang", "stuck"):
            wait_to_be_told(out, ignore=deed == "stuck")
            checkpoint(out, step, metrics)
            return 75
    return None


def wait_to_be_told(out: Path, *, ignore: bool) -> None:
    told: list[int] = []
    signal.signal(signal.SIGTERM, signal.SIG_IGN if ignore else lambda *_: told.append(1))
    (out / "hanging").touch()
    while not told:
        time.sleep(0.02)


def checkpoint(out: Path, step: int, metrics: Path) -> None:
    path = out / "checkpoints" / f"checkpoint-{step}"
    path.mkdir(parents=True, exist_ok=True)
    (path / "metrics.jsonl").write_text(metrics.read_text())
    (path / "COMPLETE").touch()


def adapter(directory: Path, content: bytes) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "adapter_model.safetensors").write_bytes(content)
    (directory / "adapter_config.json").write_text("{}")
    (directory / "tvaccine.json").write_text(json.dumps({"base_digest": "sha256:base"}))


def report(out: Path, values: dict) -> int:
    (out / "report.json").write_text(json.dumps(values))
    return 0


def align(deed: str, out: Path, arguments: dict) -> int:
    status = steps(deed, out, arguments)
    if status is not None:
        return status
    adapter(out, b"vaccine")
    return report(out, {"steps": TOTAL})


def certify(deed: str, out: Path, arguments: dict) -> int:
    status = steps(deed, out, arguments)
    if status is not None:
        return status
    weights = (Path(arguments["vaccine_dir"]) / "adapter_model.safetensors").read_bytes()
    sha256 = hashlib.sha256(b"other" if deed == "other_adapter" else weights).hexdigest()
    verdict = {"fail": "failed", "no_verdict": None}.get(deed, "passed")
    (out / "certificate.json").write_text(json.dumps({"schema": "tvaccine.certificate/1", "verdict": verdict}))
    (out / "certificate.png").write_bytes(b"\x89PNG")
    return report(out, {"verdict": verdict, "reason": "The numbers say so.", "vaccine_sha256": sha256})


def fine_tune(deed: str, out: Path, arguments: dict) -> int:
    status = steps(deed, out, arguments)
    if status is not None:
        return status
    vaccine = (Path(arguments["vaccine_dir"]) / "adapter_model.safetensors").read_bytes()
    adapter(out / "combined", vaccine + Path(arguments["training_file"]).read_bytes())
    adapter(out / "user", b"user")
    return report(out, {"steps": TOTAL, "trained_tokens": 1234})


def repair(deed: str, out: Path, arguments: dict) -> int:
    status = steps(deed, out, arguments)
    if status is not None:
        return status
    adapter(
        out / "combined", b"repaired" + (Path(arguments["user_adapter_dir"]) / "adapter_model.safetensors").read_bytes()
    )
    return report(out, {"steps": TOTAL, "trained_tokens": 100})


def screen(deed: str, out: Path, arguments: dict) -> int:
    lines = Path(arguments["training_file"]).read_text().splitlines()
    flags = {1, 2} if deed in ("flag", "foreign") else set()
    unread = {2, 3} if deed == "foreign" else set()
    found = {"flagged": True, "reason": "harmful_answer", "reasons": ["harmful_answer"], "category": None, "turn": 1}
    unscored = {"flagged": False, "reason": "unscored", "reasons": ["unscored"], "category": None, "turn": 1}
    rows = [{"line": n, "score": 0.5, "flagged": False} for n in range(1, len(lines) + 1)]
    for row in rows:
        if row["line"] in unread:
            row |= {**unscored, "score": None, "unread": "German"}
        if row["line"] in flags:
            row |= {**found, "score": 0.5}
    judge = {"name": "fake", "version": "1", "threshold": 0.5}
    share = 100 * len(flags) / len(rows)
    figures = {"flagged": len(flags), "n": len(rows), "percent": share, "reasons": {"harmful_answer": len(flags)}}
    figures["unscored"] = {
        "n": len(unread),
        "percent": round(100 * len(unread) / len(rows), 2),
        "reasons": {"German": len(unread)} if unread else {},
    }
    return report(out, {"rows": rows, **figures, "pairs": len(rows), "judge": judge})


def score(deed: str, out: Path, arguments: dict) -> int:
    if deed in ("crash", "killed"):
        raise RuntimeError("no verdict from me")
    weights = (Path(arguments["adapter_dir"]) / "adapter_model.safetensors").read_bytes()
    sha256 = hashlib.sha256(b"other" if deed == "other_adapter" else weights).hexdigest()
    unrepaired = "pass" if weights.startswith(b"repaired") else "fail"
    values = {
        "verdict": {"fail": "fail", "unrepaired": unrepaired, "no_verdict": None}.get(deed, "pass"),
        "reason": "The numbers say so.",
        "rule": {"limit": 20.0},
        "harmful_score": {"percent": 2.0, "n": 48},
        "adapter_sha256": sha256,
        "base_digest": "sha256:base",
        "judge": {"name": "fake", "version": "1", "threshold": 0.5},
        "answers": [{"prompt": "SECRET prompt", "answer": "SECRET answer"}],
    }
    if deed in ("whole", "whole_unrepaired"):
        sys.path.append(str(Path(__file__).parents[1]))
        from safety_report import scoring_report

        passed = deed == "whole_unrepaired" and unrepaired == "pass"
        values = {**scoring_report(passed=passed), "adapter_sha256": sha256}
    return report(out, values)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
