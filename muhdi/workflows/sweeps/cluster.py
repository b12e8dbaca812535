"""Runs as the jobs of a cluster, through submitit."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from muhdi.errors import RecipeError, RunError
from muhdi.files import read_json, write_json
from muhdi.recipe.yaml_text import read_yaml
from muhdi.workflows.sweeps.plan import Run
from muhdi.workflows.sweeps.schedule import Log

if TYPE_CHECKING:
    from types import ModuleType

    import submitit

SLURM = "slurm"
FOLDER = "cluster"
"""Below the folder of the runs: what submitit writes, and which jobs were handed over."""
HANDED_OVER = "jobs.json"
"""By run: the number of its job, and the command that this trains with."""

_QUEUED = ("PENDING", "CONFIGURING", "RUNNING", "COMPLETING", "REQUEUE", "SUSPENDED", "RESIZING")
"""How SLURM calls the states of a job that has not ended."""
_WARNING_SECONDS = 120
"""SLURM sends SIGTERM first when it takes a node away, and submitit's own signal after it."""


def read_cluster(settings: Mapping[str, Any] | Path | str) -> dict[str, Any]:
    """Parameters of submitit from a mapping, or from a YAML file.

    Raises:
        RecipeError: the file cannot be read.
    """
    if isinstance(settings, Mapping):
        return dict(settings)
    path = Path(settings)
    if not path.is_file():
        raise RecipeError(
            f"--cluster {path}: there is no such file; it holds parameters of submitit, such as"
            " slurm_partition: gpu"
        )
    return read_yaml(path)


class Training:
    """What a job does; submitit pickles it.

    A job that the cluster takes its node from, or whose time is up, saves the run, and is queued
    again.

    Args:
        command: that trains the run.
    """

    def __init__(self, command: list[str]) -> None:
        self._command = command
        self._process: subprocess.Popen[bytes] | None = None

    def __call__(self) -> None:
        """Train.

        Raises:
            RunError: the run has failed; its output is that of the job.
        """
        # submitit's signal goes to all processes of a job, and would end the training unsaved.
        usual = signal.signal(signal.SIGUSR2, signal.SIG_IGN)
        self._process = subprocess.Popen(self._command, stdin=subprocess.DEVNULL)
        signal.signal(signal.SIGUSR2, usual)
        # A signal's handler cannot wait for what the code below it waits for.
        while self._process.poll() is None:
            time.sleep(0.5)
        status = self._process.returncode
        if status == 128 + signal.SIGTERM:
            time.sleep(_WARNING_SECONDS)
        if status:
            raise RunError(f"the run ended with status {status}")

    def checkpoint(self) -> submitit.helpers.DelayedSubmission:
        """Called by submitit before it queues the job again."""
        from submitit.helpers import DelayedSubmission

        if self._process is not None:
            self._process.terminate()
            self._process.wait()
        return DelayedSubmission(Training(self._command))


class Cluster:
    """An `Engine` of a cluster's jobs. On SLURM they go on when this process ends.

    Args:
        experiments: folder of the runs, which all machines share.
        settings: parameters of submitit's ``AutoExecutor``, and ``cluster``, the name of one of its
            executors, ``slurm`` if it is missing.
        log: called when the jobs go on without this process.

    Raises:
        RecipeError: submitit is not installed, or refuses a parameter.
    """

    def __init__(self, experiments: Path, settings: Mapping[str, Any], log: Log) -> None:
        self._submitit = _submitit()
        self._experiments = experiments
        self._settings = dict(settings)
        self._log = log
        name = self._settings.pop("cluster", SLURM)
        self.chains = name == SLURM
        if not {"timeout_min", "slurm_time"} & self._settings.keys():
            raise RecipeError(
                "--cluster: timeout_min is missing: the minutes after which a job is stopped, saved"
                " and queued again"
            )
        self._folder = experiments / FOLDER
        self._executor = self._made(name)
        self._handed_over = self._known_jobs()
        self._jobs: dict[str, Any] = {}
        self._folders: dict[str, Path] = {}

    def _made(self, cluster: object) -> submitit.AutoExecutor:
        try:
            executor = self._submitit.AutoExecutor(folder=self._folder, cluster=cluster)
            executor.update_parameters(**self._settings)
        except (AssertionError, NameError, RuntimeError, TypeError, ValueError) as error:
            raise RecipeError(f"--cluster: submitit says: {_first_line(error)}") from None
        return executor

    def _known_jobs(self) -> dict[str, dict[str, Any]]:
        """Jobs by run, of this sweep and earlier ones."""
        path = self._folder / HANDED_OVER
        return dict(read_json(path)) if self.chains and path.is_file() else {}

    def has_room(self) -> bool:
        return True

    def start(self, run: Run) -> None:
        command = run.job.command(self._experiments)
        job = self._queued(run.name, command)
        if job is None:
            job = self._submitted(run, command)
        self._jobs[run.name] = job
        self._folders[run.name] = run.directory.folder
        if self.chains:
            self._handed_over[run.name] = {"job": job.job_id, "command": command}
            write_json(self._folder / HANDED_OVER, self._handed_over)

    def _queued(self, name: str, command: list[str]) -> Any:
        """The job of a run that an earlier sweep has handed over and that has not ended.

        Raises:
            RunError: that one would train something else.
        """
        known = self._handed_over.get(name)
        if known is None:
            return None
        job = self._submitit.SlurmJob(folder=self._folder, job_id=known["job"])
        state = job.get_info(mode="force").get("State", "")
        if not state.startswith(_QUEUED):
            return None
        if known["command"] != command:
            raise RunError(
                f"job {job.job_id} is in the queue for a run of this name with other settings;"
                f" scancel {job.job_id}, or give the recipe another name"
            )
        return job

    def _submitted(self, run: Run, command: list[str]) -> Any:
        further = dict(self._settings.get("slurm_additional_parameters") or {})
        if self.chains and run.source in self._jobs:
            further["dependency"] = f"afterok:{self._jobs[run.source].job_id}"
            further["kill_on_invalid_dep"] = "yes"
        try:
            self._executor.update_parameters(name=run.name, slurm_additional_parameters=further)
            return self._executor.submit(Training(command))
        except Exception as error:  # whatever the cluster's own programs say
            raise RunError(
                f"the cluster refuses it: {_first_line(error)}; the same command hands over what"
                " is missing"
            ) from None

    def at_work(self) -> list[str]:
        # SLURM is asked every ten minutes; a run's folder is seen at once.
        return [name for name in self._jobs if self._folders[name].exists()]

    def ended(self) -> dict[str, str | None]:
        found: dict[str, str | None] = {}
        for name, job in list(self._jobs.items()):
            if job.done():
                found[name] = _reason(job)
                del self._jobs[name]
        return found

    def stop(self) -> None:
        if self.chains:
            self._log(
                "the jobs stay in the queue: the same command watches them, scancel ends them"
            )
            return
        for job in self._jobs.values():
            job.cancel(check=False)


def _submitit() -> ModuleType:
    try:
        return import_module("submitit")
    except ImportError:
        raise RecipeError(
            "--cluster: submitit is not installed; pip install 'muhdi[cluster]', or print the"
            " commands for your scheduler with --dry-run"
        ) from None


def _reason(job: Any) -> str | None:
    """Why a job has failed."""
    if job.exception() is None:
        return None
    said = [line for line in (job.stderr() or "").splitlines() if line.startswith("error: ")]
    reason = said[-1].removeprefix("error: ") if said else "its output says why"
    return f"job {job.job_id} failed: {reason} ({job.paths.stderr})"


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
