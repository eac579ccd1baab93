"""One certificate: a vaccine is attacked, and what it withstood is written down. Leaves `certificate.json`."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tvaccine_core.certificate.assembly import make_certificate
from tvaccine_core.certificate.config import CertificateConfig
from tvaccine_core.certificate.course import STAGE, Course
from tvaccine_core.certificate.document import Certificate
from tvaccine_core.certificate.figure import draw_certificate
from tvaccine_core.certificate.layers import layers_table
from tvaccine_core.certificate.measuring import Site
from tvaccine_core.certificate.parts import parts_of
from tvaccine_core.certificate.rows import CertificateFiles, read_rows, require_the_vaccines_own, rules_digest
from tvaccine_core.data.datasets import demo_file, file_digest
from tvaccine_core.errors import InvalidRequest
from tvaccine_core.models.adapter_files import WEIGHTS_FILE
from tvaccine_core.models.adapter_records import read_record
from tvaccine_core.training.files import write_json_atomic
from tvaccine_core.training.stop import never

logger = logging.getLogger(__name__)

CERTIFICATE, PICTURE, REPORT = "certificate.json", "certificate.png", "report.json"


def certify(
    base: str,
    vaccine_dir: Path,
    out: Path,
    config: CertificateConfig,
    *,
    prompts_file: Path,
    harmful_file: Path,
    alignment_file: Path,
    probe_file: Path | None = None,
    benign_file: Path | None = None,
    task_file: Path | None = None,
    heldout_file: Path | None = None,
    chat_file: Path | None = None,
    judge: str | None = None,
    resume_from: Path | None = None,
    should_stop: Callable[[], bool] = never,
    dtype: str = "auto",
    device: str = "auto",
) -> None:
    """Attacks a vaccine and measures it before and after: harmful score, coherence, over-refusal, task accuracy.

    base: as for `load_base`. The files are those of `CertificateFiles`; benign_file, task_file and heldout_file are the
    shipped ones if None. judge: a name or directory, the shipped one if None.
    resume_from: a checkpoint of an earlier run with the same arguments: parts that it finished are taken over. In the
    same `out` a run also goes on in the middle of a part.
    Leaves in `out`: config.json, metrics.jsonl, parts/ and checkpoints/ (figures only: an attack's adapter and its
    answers are removed when it is measured), certificate.json, certificate.png and, last, report.json (the summary).
    Raises DatasetOverlap when the vaccine or the scoring knows a row of the attacks, InvalidRequest for files that the
    vaccine was not made with, for faulty ones, and for an `out` of another certificate, BaseMismatch, ScoringFailed,
    Stopped.
    """
    files = CertificateFiles(
        prompts=prompts_file,
        harmful=harmful_file,
        benign=benign_file or demo_file("benign_prompts"),
        task=task_file or demo_file("task_train"),
        heldout=heldout_file or demo_file("task_heldout"),
        chat=chat_file,
        alignment=alignment_file,
        probe=probe_file,
    )
    facts = _facts(vaccine_dir, files, config, judge)
    rows = read_rows(files, config)
    for left_over in (CERTIFICATE, PICTURE, REPORT):
        (out / left_over).unlink(missing_ok=True)
    course = Course(out, parts_of(config))
    course.open({"stage": STAGE, **facts}, resume_from)
    course.follow(Site(base, vaccine_dir, config, files, rows, judge, should_stop, dtype, device), resume_from)
    certificate = make_certificate(config, course.figures(), {**facts, "layers": layers_table(vaccine_dir)})
    write_json_atomic(out / CERTIFICATE, certificate.model_dump(mode="json", by_alias=True))
    _draw(certificate, out / PICTURE)
    write_json_atomic(out / REPORT, certificate.summary().model_dump(mode="json"))


def _facts(vaccine_dir: Path, files: CertificateFiles, config: CertificateConfig, judge: str | None) -> dict[str, Any]:
    """What is certified by which rules. Raises InvalidRequest for what is no vaccine, or for files of another one."""
    record = read_record(vaccine_dir)
    if record["kind"] != "vaccine":
        raise InvalidRequest(f"{vaccine_dir.name} is no vaccine but a {record['kind']} adapter.", param="vaccine_dir")
    require_the_vaccines_own(files, record)
    return {
        "base_name": record["base_name"],
        "base_digest": record["base_digest"],
        "method": record.get("method"),
        "vaccine_sha256": file_digest(vaccine_dir / WEIGHTS_FILE).removeprefix("sha256:"),
        "digests": files.digests(),
        "rules_sha256": rules_digest(config, files, judge),
        "settings": config.to_dict(),
    }


def _draw(certificate: Certificate, path: Path) -> None:
    try:
        draw_certificate(certificate, path)
    except Exception as error:
        # The verdict does not hang on a picture.
        logger.warning("the certificate has no picture: %s", type(error).__name__)
        path.unlink(missing_ok=True)
