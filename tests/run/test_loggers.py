"""What the record of a run, TensorBoard, W&B (offline) and MLflow (in a folder) get."""

from __future__ import annotations

import json
import os
import struct
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from muhdi.errors import MuhdiError, RunError
from muhdi.evaluation.results import LABEL_FREE
from muhdi.recipe.load import load_recipe
from muhdi.recipe.schema import Recipe
from muhdi.run.directory import RunDirectory
from muhdi.run.log import RunLog
from muhdi.run.loggers import RunLogger, check_loggers
from muhdi.run.progress import Screen
from muhdi.workflows.train import train
from tests.workflows.test_train import Crash, crashing

Tiny = Callable[..., Path]
SETTINGS = ["evaluation.statistics=[running]", "runtime.save_every=2"]
SAMPLES = {
    f"{domain}_0_{what}"
    for domain in ("sim", "city", "night")
    for what in ("image", "label", "predicted_running")
}


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Services keep everything in the test's folder, and call nobody."""
    monkeypatch.setenv("WANDB_MODE", "offline")
    for name in ("DATA", "CACHE", "CONFIG"):
        monkeypatch.setenv(f"WANDB_{name}_DIR", str(tmp_path / "wandb"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"file:{tmp_path / 'store'}")
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    # What the run sets for such an address goes with the test.
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")


def recipe_with(tiny: Tiny, *loggers: str) -> Recipe:
    return load_recipe(tiny(), [*SETTINGS, f"runtime.loggers=[{','.join(loggers)}]"])


def train_with_a_crash(recipe: Recipe, experiments: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The crash comes after iteration 5 of 9; the last state is that of iteration 3."""
    with monkeypatch.context() as patch:
        crashing(patch, 4)
        with pytest.raises(Crash):
            train(recipe, experiments, quiet=True)
    train(recipe, experiments, resume=True, quiet=True)


def recorded_losses(run: RunDirectory) -> dict[str, dict[int, float]]:
    """Of ``metrics.jsonl``: values by name and iteration of the whole run."""
    before = {"source": 0, "city": 3, "night": 6}
    found: dict[str, dict[int, float]] = {}
    for text in run.metrics.read_text().splitlines():
        line = json.loads(text)
        step = before[line.pop("stage")] + line.pop("iteration")
        for name, value in line.items():
            found.setdefault(f"loss/{name}", {})[step] = value
    return found


def scores(run: RunDirectory) -> dict[str, dict[int, float]]:
    """Of ``results.json``: scores in percent by name and iteration of the whole run."""
    found: dict[str, dict[int, float]] = {}
    for number, step in enumerate(run.load_results()["steps"]):
        for domain, entry in step["scores"]["running"].items():
            values = {
                "miou": entry["miou"],
                **{key: entry["label_free"][key] for key in LABEL_FREE},
            }
            for key, value in values.items():
                if value is not None:
                    found.setdefault(f"{key}/running/{domain}", {})[3 * (number + 1)] = value
    return found


def expected(run: RunDirectory) -> dict[str, dict[int, float]]:
    return recorded_losses(run) | scores(run)


def assert_close(found: Mapping[str, dict[int, float]], wanted: Mapping[str, Any]) -> None:
    """The same names and steps, and values equal to what float32 and a printed score keep."""
    assert found.keys() == wanted.keys()
    for name, values in wanted.items():
        assert found[name] == pytest.approx(values, rel=1e-4), name


# --- TensorBoard ----------------------------------------------------------------------------------


def test_tensorboard_gets_losses_scores_images_and_recipe_and_no_step_twice(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = recipe_with(tiny, "tensorboard", "jsonl")
    train_with_a_crash(recipe, tmp_path, monkeypatch)
    run = RunDirectory.of(recipe, tmp_path)
    assert run.logs == tmp_path / "logs" / "tiny"
    assert len(list(run.logs.glob("events.*"))) == 2
    events = EventAccumulator(str(run.logs), size_guidance={"scalars": 0, "images": 0})
    events.Reload()
    found = {}
    for name in events.Tags()["scalars"]:
        points = events.Scalars(name)
        found[name] = {point.step: point.value for point in points}
        assert len(found[name]) == len(points), f"{name}: a step was written twice"
    assert_close(found, expected(run))
    assert set(events.Tags()["images"]) == {f"samples/{stem}" for stem in _kept(run)}
    assert _kept(run) >= SAMPLES
    text = events.Tensors("recipe/text_summary")[0].tensor_proto.string_val[0].decode()
    assert "name: tiny" in text


def _kept(run: RunDirectory) -> set[str]:
    """What the finished network made of the samples. The report adds earlier networks' later."""
    stems = {path.stem for path in run.samples.glob("*.png")}
    return {stem for stem in stems if "_after" not in stem}


def test_without_loggers_nothing_is_written_but_the_run(tiny: Tiny, tmp_path: Path) -> None:
    recipe = recipe_with(tiny)
    train(recipe, tmp_path, quiet=True)
    run = RunDirectory.of(recipe, tmp_path)
    assert not run.metrics.exists()
    assert not list(run.logs.iterdir())
    assert run.results.exists()


def test_a_record_that_is_left_out_for_a_while_keeps_what_it_had(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for after, loggers in ((4, ["jsonl"]), (3, []), (None, ["jsonl"])):
        recipe = recipe_with(tiny, *loggers)
        with monkeypatch.context() as patch:
            if after is not None:
                crashing(patch, after)
            try:
                train(recipe, tmp_path, resume=True, quiet=True)
            except Crash:
                assert after is not None
    lines = RunDirectory.of(recipe, tmp_path).metrics.read_text().splitlines()
    iterations = [(json.loads(line)["stage"], json.loads(line)["iteration"]) for line in lines]
    assert iterations[:3] == [("source", 1), ("source", 2), ("source", 3)]
    assert iterations[-1] == ("night", 3)


# --- MLflow ---------------------------------------------------------------------------------------


def test_mlflow_gets_everything_in_one_run_though_it_was_interrupted(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, offline: None
) -> None:
    pytest.importorskip("mlflow", reason="mlflow is not installed: pip install 'muhdi[mlflow]'")
    from mlflow.tracking import MlflowClient

    recipe = recipe_with(tiny, "jsonl", "mlflow")
    with monkeypatch.context() as patch:
        crashing(patch, 4)
        with pytest.raises(Crash):
            train(recipe, tmp_path, quiet=True)
    client = MlflowClient()
    run = RunDirectory.of(recipe, tmp_path)
    number = json.loads((run.folder / "loggers.json").read_text())["mlflow"]
    assert client.get_run(number).info.status == "KILLED"
    train(recipe, tmp_path, resume=True, quiet=True)
    experiment = client.get_experiment_by_name("muhdi")
    assert [each.info.run_id for each in client.search_runs([experiment.experiment_id])] == [number]
    kept = client.get_run(number)
    assert kept.info.status == "FINISHED"
    assert kept.info.run_name == "tiny"
    assert kept.data.params["seed"] == "0"
    assert kept.data.params["steps.0.target.domain"] == "city"
    assert kept.data.params["steps.1.adaptation.method"] == "none"
    found = {}
    for name in kept.data.metrics:
        history = client.get_metric_history(number, name)
        found[name] = {point.step: point.value for point in history}
    assert_close(found, expected(run))
    files = {file.path for file in client.list_artifacts(number)}
    assert files == {"samples", "report.html"}
    samples = {Path(file.path).stem for file in client.list_artifacts(number, "samples")}
    assert samples == _kept(run)


def test_a_server_that_does_not_answer_is_one_line_and_leaves_nothing(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, offline: None, muhdi
) -> None:
    pytest.importorskip("mlflow", reason="mlflow is not installed: pip install 'muhdi[mlflow]'")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    tiny(runtime={"loggers": ["mlflow"]})
    status, _, errors = muhdi("train", "tiny.yml", "--experiments", tmp_path)
    assert status == 2
    assert len(errors.strip().splitlines()) == 1
    assert errors.startswith("error: runtime.loggers: mlflow cannot be started (")
    assert not (tmp_path / "snapshots" / "tiny").exists()


# --- Weights & Biases -----------------------------------------------------------------------------


def wandb_records(path: Path) -> Iterator[Any]:
    """The records of a ``.wandb`` file: a log of LevelDB's format that begins with 7 bytes."""
    from wandb.proto.wandb_internal_pb2 import Record

    data = path.read_bytes()
    position = 7
    parts = b""
    while position + 7 <= len(data):
        left_in_block = 32768 - position % 32768
        if left_in_block < 7:
            position += left_in_block
            continue
        _, length, kind = struct.unpack_from("<IHB", data, position)
        parts += data[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):  # whole, or the last part
            record = Record()
            record.ParseFromString(parts)
            yield record
            parts = b""


@dataclass
class WandbFiles:
    """What the files of a run's sessions hold."""

    values: dict[str, dict[int, float]] = field(default_factory=dict)
    images: set[str] = field(default_factory=set)
    artefacts: list[str] = field(default_factory=list)
    names: set[tuple[str, str]] = field(default_factory=set)
    configuration: dict[str, Any] = field(default_factory=dict)
    exits: list[int] = field(default_factory=list)

    def add(self, record: Any) -> None:
        what = record.WhichOneof("record_type")
        if what == "history":
            self._add_history(record.history)
        elif what == "artifact":
            self.artefacts += [entry.path for entry in record.artifact.manifest.contents]
        elif what == "run":
            self.names.add((record.run.run_id, record.run.display_name))
            for item in record.run.config.update:
                self.configuration[item.key] = json.loads(item.value_json)
        elif what == "exit":
            self.exits.append(record.exit.exit_code)

    def _add_history(self, history: Any) -> None:
        values = {}
        for item in history.item:
            values[item.key or "/".join(item.nested_key)] = json.loads(item.value_json)
        for name, value in values.items():
            if name.startswith(("loss/", "miou/", "entropy/", "mutual_information/")):
                self.values.setdefault(name, {})[values["_step"]] = value
            elif name.startswith("samples/"):  # the size and so on of each follow its name
                self.images.add(name.split("/")[1])


def written_by_wandb(files: list[Path]) -> WandbFiles:
    """What is in the files of the sessions, once each holds its end.

    W&B's own process writes them, and on a busy machine may be behind.
    """
    until = time.monotonic() + 30
    while True:
        found = WandbFiles()
        for path in sorted(files, key=lambda path: path.parent.name):
            for record in wandb_records(path):
                found.add(record)
        if len(found.exits) == len(files) or time.monotonic() > until:
            return found
        time.sleep(0.5)


def test_wandb_gets_everything_in_one_run_though_it_was_interrupted(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, offline: None
) -> None:
    pytest.importorskip("wandb.proto", reason="wandb is not installed: pip install 'muhdi[wandb]'")
    recipe = recipe_with(tiny, "jsonl", "wandb")
    train_with_a_crash(recipe, tmp_path, monkeypatch)
    run = RunDirectory.of(recipe, tmp_path)
    number = json.loads((run.folder / "loggers.json").read_text())["wandb"]
    # One folder per session, both of the same run.
    files = list(run.logs.glob("wandb/offline-run-*/*.wandb"))
    assert [path.name for path in files] == [f"run-{number}.wandb"] * 2
    found = written_by_wandb(files)
    assert found.exits == [1, 0]
    assert_close(found.values, expected(run))
    assert found.images == _kept(run)
    assert found.artefacts == ["report.html"]
    assert found.names == {(number, "tiny")}
    assert found.configuration["steps"][1]["target"]["domain"] == "night"
    assert found.configuration["image_size"] == [48, 32]


# --- packages that are missing, services that fail ------------------------------------------------


@pytest.mark.parametrize("service", ["wandb", "mlflow"])
def test_a_missing_package_is_one_line_before_anything_is_written(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, muhdi, service: str
) -> None:
    monkeypatch.setitem(sys.modules, service, None)
    tiny(runtime={"loggers": ["jsonl", service]})
    status, output, errors = muhdi("train", "tiny.yml", "--experiments", tmp_path / "new")
    assert status == 2
    assert errors == (
        f"error: runtime.loggers: {service} is not installed; pip install 'muhdi[{service}]', or "
        "leave it out\n"
    )
    assert output == ""
    assert not (tmp_path / "new").exists()


def test_a_folder_called_wandb_is_no_package(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "wandb").mkdir()
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    monkeypatch.delitem(sys.modules, "wandb", raising=False)
    with pytest.raises(RunError, match="wandb is not installed"):
        check_loggers(recipe_with(tiny, "wandb"))


class Kept(RunLogger):
    """Keeps what it gets, until its service is gone."""

    name = "kept"
    version = "1"

    def __init__(self, error: Exception, *, service: bool) -> None:
        self.is_service = service
        self.error = error
        self.gets: list[Mapping[str, float]] = []

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        if len(self.gets) == 2:
            raise self.error
        self.gets.append(metrics)

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        pass


def run_log(tmp_path: Path, *loggers: RunLogger) -> RunLog:
    directory = RunDirectory(tmp_path / "run", tmp_path / "logs")
    return RunLog(directory, Screen(), None, loggers, 0)


def test_a_service_that_goes_away_costs_one_line_and_no_training(tmp_path: Path, capsys) -> None:
    failing = Kept(ConnectionError("no route\nto host"), service=True)
    staying = Kept(ConnectionError(), service=True)
    log = run_log(tmp_path, failing, staying)
    log.scores(1, {"miou/running/sim": 10})
    log.scores(2, {"miou/running/sim": 20})
    staying.gets.clear()
    log.scores(3, {"miou/running/sim": 30})
    log.scores(4, {"miou/running/sim": 40})
    assert [entry["miou/running/sim"] for entry in failing.gets] == [10, 20]
    assert [entry["miou/running/sim"] for entry in staying.gets] == [30, 40]
    assert capsys.readouterr().out == (
        "kept: cannot be reached any more (no route to host); the training continues without it\n"
    )


def test_a_disk_that_is_full_stops_the_training(tmp_path: Path) -> None:
    log = run_log(tmp_path, Kept(OSError(28, os.strerror(28)), service=False))
    log.scores(1, {"a": 1})
    log.scores(2, {"a": 1})
    with pytest.raises(
        MuhdiError, match=r"logs: cannot be written: No space left .*free some space"
    ):
        log.scores(3, {"a": 1})
