"""Write the report of a run."""

from __future__ import annotations

from pathlib import Path

from muhdi.evaluation.samples import add_earlier_predictions
from muhdi.files import check_target
from muhdi.report.report import write_report
from muhdi.report.run_files import read_run


def report(run: Path, output: Path | None = None, *, trust_code: bool = False) -> Path:
    """Write the report of a run, finished or not, after the predictions that it shows.

    Args:
        run: its directory.
        output: the file; None: ``report.html`` in the run.
        trust_code: whether backbones of other packages are imported to predict with them; without,
            predictions of earlier stages are left out.

    Returns:
        The file.

    Raises:
        MuhdiError: the folder is not a run directory, nothing was evaluated yet, or the file
            cannot be written.
    """
    if output is not None:
        check_target(output)
    read_run(run)
    add_earlier_predictions(run, trust_code=trust_code)
    return write_report(run, output)
