"""What a sweep runs, on which GPU or cluster, and what a failure leaves."""

from __future__ import annotations

import csv
import json
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from muhdi import Interrupted, MuhdiError, Recipe, RecipeError, RunError
from muhdi.evaluation.results import Results
from muhdi.run.directory import RunDirectory
from muhdi.workflows.sweep import Where, sweep, sweep_commands
from muhdi.workflows.sweeps import devices, processes
from muhdi.workflows.sweeps.cluster import Cluster, Training
from muhdi.workflows.sweeps.plan import Asked, Run, SweepPlan, planned
from muhdi.workflows.sweeps.processes import Processes
from muhdi.workflows.sweeps.progress import Watch
from muhdi.workflows.sweeps.schedule import Schedule
from tests.conftest import write_tiny

Muhdi = Callable[..., tuple[int, str, str]]
Tiny = Callable[..., Path]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> SweepPlan:
    """Two arms with a source in common, two seeds, and two orders."""
    folder = tmp_path_factory.mktemp("sweep")
    one = write_tiny(folder).rename(folder / "one.yml")
    plain = write_tiny(folder, name="plain", every_step={"iterations": 2, "adaptation": "none"})
    files = {"tiny": str(one), "plain": str(plain)}
    return planned(Asked(files, [1, 2], orders="reverse"), folder / "swept")


@pytest.fixture
def plan(made: SweepPlan, tmp_path: Path) -> SweepPlan:
    """The same, with a folder of its own for whatever is written."""
    return replace(made, experiments=tmp_path / "swept")


class FakeChild:
    """A process that ends at once."""

    def __init__(self, status: int = 0, line: str = "") -> None:
        self.status = status
        self.line = line
        self.terminated = False

    def poll(self) -> int:
        return self.status

    def last_line(self) -> str:
        return self.line

    def terminate(self) -> None:
        self.terminated = True

    def wait(self) -> int:
        return self.status


# --- what is run ----------------------------------------------------------------------------------


def test_arms_orders_and_seeds_share_the_sources(plan: SweepPlan) -> None:
    assert list(plan.arms) == [
        f"{arm}_order_{order}"
        for arm in ("tiny", "plain")
        for order in ("city-night", "night-city")
    ]
    assert [run.recipe.seed for run in plan.sources] == [1, 2]
    first, second = (run.name for run in plan.sources)
    for runs in plan.arms.values():
        assert [run.source for run in runs] == [first, second]
    names = [run.name for run in plan.runs]
    assert names[:4] == [
        first,
        second,
        "tiny_order_city-night_seed1",
        "tiny_order_night-city_seed1",
    ]
    assert len(names) == len(set(names)) == 10


def test_a_run_that_looks_back_at_its_backbone_trains_its_own_source(
    tiny: Tiny, tmp_path: Path
) -> None:
    adaptation = "every_step.adaptation={method: minent, feature_distance: {}}"
    settings = [adaptation, "model.init=weights.pth"]
    plan = planned(Asked({"tiny": str(tiny())}, [1], settings), tmp_path)
    assert plan.sources == []
    (run,) = plan.runs
    assert not any("source_training.iterations" in word for word in run.job.settings)


def test_a_source_is_scored_in_no_special_way(tiny: Tiny, tmp_path: Path) -> None:
    settings = ["evaluation.weights=teacher", "every_step.adaptation=selftrain"]
    plan = planned(Asked({"tiny": str(tiny())}, [1], settings), tmp_path)
    (source,) = plan.sources
    assert source.recipe.evaluation.weights == "model"


def test_a_source_serves_recipes_that_are_scored_differently(tiny: Tiny, tmp_path: Path) -> None:
    def plan(*settings: str) -> SweepPlan:
        return planned(Asked({"tiny": str(tiny())}, [1], settings), tmp_path)

    (first,) = plan("evaluation={flip: true, samples: 1}").sources
    first.directory.create(first.recipe, overwrite=False)
    first.directory.release()
    (again,) = plan("name=other").sources
    assert again.name == first.name
    # Whoever continues it scores it as it was begun.
    assert again.recipe.experiment() == first.recipe.experiment()


def test_a_source_serves_no_recipe_of_another_folder(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def source(*settings: str) -> str:
        return planned(Asked({"tiny": str(tiny())}, [1], settings), tmp_path).sources[0].name

    first = source()
    assert source(f"runtime.root={Path.cwd()}") == first
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert source() != first


def test_a_source_serves_no_recipe_with_other_data(tiny: Tiny, tmp_path: Path) -> None:
    varied = {"runtime.root": [str(tmp_path), "."]}
    plan = planned(Asked({"tiny": str(tiny())}, [1], varied=varied), tmp_path)
    assert len({run.source for run in plan.runs if run.source}) == 2


@pytest.mark.parametrize("folder", ["runs #1", "a: b", "{x}", "null", "ä 'b'"])
def test_a_folder_may_have_any_name(tiny: Tiny, tmp_path: Path, folder: str) -> None:
    plan = planned(Asked({"tiny": str(tiny())}, [1]), tmp_path / folder)
    (source,) = plan.sources
    (run,) = plan.arms["tiny"]
    assert run.recipe.model.init == str(source.directory.model(0, "source", 3))


def test_a_folder_may_be_below_the_home(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    sources, arms = sweep_commands([tiny()], [1], experiments="~/runs")
    assert all(f"--experiments {tmp_path}/runs" in command for command in [*sources, *arms])
    assert RunDirectory.of(Recipe.load(tiny()), "~/runs").folder == tmp_path / "runs/snapshots/tiny"


def test_a_recipe_with_a_folder_of_its_own_needs_to_be_told_of_another(
    tiny: Tiny, tmp_path: Path
) -> None:
    for key in ("snapshots", "logs"):
        file = tiny(runtime={key: "/big"})
        with pytest.raises(RecipeError, match=f"tiny: runtime.{key} is /big, but .* --experiments"):
            sweep([file], [1])
    _, arms = sweep_commands([file], [1], experiments=tmp_path / "runs")
    assert f"--experiments {tmp_path}/runs" in arms[0]
    sources, _ = sweep_commands([tiny()], [1])
    assert "--experiments experiments " in sources[0]


def test_a_run_of_other_settings_of_the_machine_is_taken(tiny: Tiny, tmp_path: Path) -> None:
    begun = Recipe.load(tiny(), ["runtime.workers=1", "description=mine"], 1)
    directory = RunDirectory.of(begun, tmp_path)
    directory.create(begun, overwrite=False)
    directory.release()
    plan = planned(Asked({"tiny": str(tiny())}, [1]), tmp_path)
    assert plan.sources == []
    assert plan.arms["tiny"][0].directory.folder == directory.folder


@pytest.mark.parametrize("way", ["another name", "moved"])
def test_a_folder_is_known_again(
    tiny: Tiny, tmp_path: Path, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    asked = Asked({"tiny": str(tiny())}, [1])
    (run,) = planned(asked, Path("swept")).arms["tiny"]
    run.directory.create(run.recipe, overwrite=False)
    run.directory.release()
    folder = Path("swept").absolute()
    if way == "moved":
        folder = Path("swept").rename("elsewhere")
    (again,) = planned(asked, folder).arms["tiny"]
    assert again.recipe.model.init == run.recipe.model.init
    assert again.directory.has_recipe()


def test_a_damaged_run_is_named(tiny: Tiny, tmp_path: Path) -> None:
    asked = Asked({"tiny": str(tiny())}, [1])
    (run,) = planned(asked, tmp_path).arms["tiny"]
    run.directory.create(run.recipe, overwrite=False)
    run.directory.release()
    for text in ("{}", "[]", "null", '{"steps": 5}'):
        run.directory.results.write_text(text)
        with pytest.raises(MuhdiError, match=re.escape(str(run.directory.results))):
            planned(asked, tmp_path)


def test_two_variations_that_mean_the_same_are_refused(tiny: Tiny, tmp_path: Path) -> None:
    def jobs(key: str, *values: object) -> int:
        return len(Asked({"tiny": str(tiny())}, [1], varied={key: values}).jobs())

    retention = "every_step.retention"
    images = {"method": "style", "images": 32}
    message = "--vary: retention-style and retention-style-images-32 mean the same; leave one of"
    with pytest.raises(RecipeError, match=message):
        jobs(retention, "style", images)
    assert jobs(retention, "style", {"method": "style", "images": 31}) == 2
    assert jobs("runtime.workers", 0, 1) == 2


def test_what_could_not_be_compared_is_not_even_printed(
    muhdi: Muhdi, tiny: Tiny, tmp_path: Path
) -> None:
    one = tiny().rename(tmp_path / "one.yml")
    both = tiny(name="both", steps=[{"target": {"dataset": "scenes", "domain": "fog"}}])
    status, _, errors = muhdi("sweep", one, both, "--seed", "1", "--dry-run")
    assert status == 2
    assert "sweep recipes of one benchmark" in errors


def test_a_run_has_ended_when_its_page_is_there(tiny: Tiny, tmp_path: Path) -> None:
    (run,) = planned(Asked({"tiny": str(tiny())}, [1]), tmp_path).sources
    run.directory.folder.mkdir(parents=True)
    scored = Results("tiny", 1, "sim", ["sim"], [], [])
    scored.add("source", {"running": {"sim": {"miou": 50.0, "iou": {}}}})
    run.directory.results.write_text(json.dumps(scored.to_json()))
    run.directory.samples.mkdir()
    assert not run.is_complete(), "it was killed while it wrote the page"
    run.directory.page.touch()
    assert run.is_complete()


def test_without_jobs_nothing_begins(tiny: Tiny, tmp_path: Path) -> None:
    for jobs in (0, -1):
        with pytest.raises(RecipeError, match=f"jobs: must be 1 or more .it is {jobs}"):
            sweep([tiny()], [1], experiments=tmp_path / "swept", jobs=jobs)
    assert not (tmp_path / "swept").exists()


def test_a_source_needs_no_domain_of_a_stream(tiny: Tiny, tmp_path: Path) -> None:
    plan = planned(Asked({"tiny": str(tiny())}, [1], ["online={domains: [night]}"]), tmp_path)
    (source,) = plan.sources
    assert source.recipe.online is None
    (run,) = plan.arms["tiny"]
    assert run.recipe.online is not None


def test_a_command_trains_what_was_planned(plan: SweepPlan) -> None:
    run = plan.arms["plain_order_night-city"][1]
    words = run.job.arguments(plan.experiments)
    assert words[words.index("--order") + 1] == "night,city"
    assert words[words.index("--seed") + 1] == "2"
    network = plan.sources[1].directory.model(0, "source", 3)
    assert f'model.init="{network}"' in words
    assert "--order" not in plan.sources[0].job.arguments(plan.experiments)


def test_each_value_of_a_key_is_an_arm_in_every_order(tiny: Tiny, tmp_path: Path) -> None:
    varied = {"every_step.retention": ["none", "distill"]}
    asked = Asked({"tiny": str(tiny())}, [1, 2], orders="reverse", varied=varied)
    plan = planned(asked, tmp_path)
    assert list(plan.arms) == [
        f"tiny_retention-{value}_order_{order}"
        for value in ("none", "distill")
        for order in ("city-night", "night-city")
    ]
    assert len(plan.sources) == 2
    kept = plan.arms["tiny_retention-distill_order_night-city"][1].recipe
    assert kept.name == "tiny_retention-distill_order_night-city_seed2"
    assert {step.retention.method for step in kept.steps} == {"distill"}
    assert {step.retention.method for step in plan.runs[2].recipe.steps} == {"none"}


def test_recipes_with_other_targets_have_no_order_in_common(tiny: Tiny) -> None:
    asked = Asked({"tiny": str(tiny()), "scenes": "scenes"}, [1], orders="all")
    with pytest.raises(RecipeError, match="must name the targets of scenes"):
        asked.jobs()["scenes_order_city-night"][0].load()


# --- failures -------------------------------------------------------------------------------------


def test_others_go_on_when_one_fails(plan: SweepPlan, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = plan.sources[0].name

    def spawn(run: Run, experiments: Path, gpu: str | None) -> FakeChild:
        bad = run.name in (broken, "tiny_order_city-night_seed2")
        return FakeChild(2, "error: no such image") if bad else FakeChild()

    monkeypatch.setattr(processes, "spawn", spawn)
    said: list[str] = []
    watch = Watch(plan)
    monkeypatch.setattr(watch, "_score", lambda run: 50.0)
    boards = []
    engine = Processes(plan.experiments, [None, None])
    schedule = Schedule(
        plan.runs,
        engine,
        said.append,
        lambda now: boards.append(watch.board(engine.at_work(), now.done, now.failures)),
    )
    failures = schedule.run()
    assert failures[broken] == "the run ended with status 2: no such image"
    assert failures["plain_order_city-night_seed1"] == f"its source, {broken}, has failed"
    assert len(failures) == 1 + 4 + 1
    assert "plain_order_night-city_seed2: done" in said
    cells = {arm: [run.text() for run in runs.values()] for arm, runs in boards[-1].rows.items()}
    assert cells == {
        "(source)": ["failed", "50.0"],
        "tiny_order_city-night": ["failed", "failed"],
        "tiny_order_night-city": ["failed", "50.0"],
        "plain_order_city-night": ["failed", "50.0"],
        "plain_order_night-city": ["failed", "50.0"],
    }


def test_a_failure_ends_with_an_error_that_names_all(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "spawn", lambda *given: FakeChild(2, "error: no such image"))
    message = (
        "source_.{8}_seed1: the run ended with status 2: no such image; tiny_seed1 failed, too"
    )
    with pytest.raises(RunError, match=message):
        sweep([tiny()], [1], experiments=tmp_path / "x", log=lambda line: None)


def test_a_signal_stops_what_runs(plan: SweepPlan, monkeypatch: pytest.MonkeyPatch) -> None:
    child = FakeChild()
    monkeypatch.setattr(child, "poll", lambda: os.kill(os.getpid(), signal.SIGTERM))
    monkeypatch.setattr(processes, "spawn", lambda *given: child)
    engine = Processes(plan.experiments, [None])
    with pytest.raises(Interrupted) as stopped:
        Schedule(plan.runs, engine, lambda line: None, lambda now: None).run()
    assert stopped.value.signum == signal.SIGTERM
    assert child.terminated


def test_output_of_any_length_is_kept_until_the_end(tmp_path: Path) -> None:
    code = "print('x' * 200_000); print('error: the last line'); raise SystemExit(2)"
    process = processes.Process([sys.executable, "-c", code], os.environ)
    assert process.wait() == 2
    assert process.last_line() == "error: the last line"


# --- devices --------------------------------------------------------------------------------------


def test_every_process_sees_one_gpu(plan: SweepPlan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    seen: list[tuple[str, str]] = []

    def start(command: list[str], environment: Mapping[str, str]) -> FakeChild:
        seen.append((environment["CUDA_VISIBLE_DEVICES"], environment["OMP_NUM_THREADS"]))
        return FakeChild()

    monkeypatch.setattr(processes, "Process", start)
    monkeypatch.setattr(devices, "visible_gpus", lambda: ["2", "3"])
    engine = Where().engine(plan, print)
    Schedule(plan.runs, engine, lambda line: None, lambda now: None).run()
    assert seen == [(str(2 + number % 2), "1") for number in range(10)]


def test_a_process_has_one_thread_unless_the_user_says_otherwise(
    plan: SweepPlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[str] = []

    def start(command: list[str], environment: Mapping[str, str]) -> FakeChild:
        threads.append(environment["OMP_NUM_THREADS"])
        return FakeChild()

    monkeypatch.setattr(processes, "Process", start)
    for chosen in (None, "4"):
        if chosen is None:
            monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
        else:
            monkeypatch.setenv("OMP_NUM_THREADS", chosen)
        processes.spawn(plan.runs[0], plan.experiments, None)
    assert threads == ["1", "4"]


def test_places(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    recipes = [Recipe.load(tiny())]
    on_cpu = [Recipe.load(tiny(), ["runtime.device=cpu"])]
    monkeypatch.setattr(os, "cpu_count", lambda: 3)
    monkeypatch.setattr(devices, "visible_gpus", list)
    assert devices.places(None, None, recipes) == [None] * 3
    with pytest.raises(RecipeError, match="--gpus 0: PyTorch sees no GPU on this machine"):
        devices.places(None, "0", recipes)
    monkeypatch.setattr(devices, "visible_gpus", lambda: ["0", "1", "GPU-a"])
    assert devices.places(None, None, recipes) == ["0", "1", "GPU-a"]
    assert devices.places(None, "auto", recipes) == ["0", "1", "GPU-a"]
    assert devices.places(4, "1,GPU-a", recipes) == ["1", "GPU-a", "1", "GPU-a"]
    assert devices.places(2, None, on_cpu) == [None, None]
    for gpus, setting, message in (
        ("0,7", "seed=0", "--gpus 0,7: there is no GPU '7' (there are 0, 1, GPU-a)"),
        (None, "runtime.devices=2", "tiny: runtime.devices: the runs of a sweep have one GPU"),
        (None, "runtime.device=cuda:1", "tiny: runtime.device: cuda:1: the runs of a sweep see"),
        ("auto", "runtime.device=cpu", "--gpus auto: runtime.device is cpu"),
    ):
        with pytest.raises(RecipeError) as refused:
            devices.places(None, gpus, [Recipe.load(tiny(), [setting])])
        assert str(refused.value).startswith(message)


def test_visible_gpus_keep_their_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert devices.visible_gpus() == ["0", "1"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,GPU-a")
    assert devices.visible_gpus() == ["3", "GPU-a"]


# --- a cluster ------------------------------------------------------------------------------------


class FakeSlurm(ModuleType):
    """What a sweep uses of submitit: jobs end when they are asked the second time."""

    def __init__(self) -> None:
        super().__init__("submitit")
        self.submitted: list[dict[str, Any]] = []
        self.failing: set[str] = set()
        self.queued = ""
        self.most = 100

    def AutoExecutor(self, folder: Path, cluster: str) -> Any:  # noqa: N802 - as submitit
        parameters: dict[str, Any] = {"cluster": cluster}

        def update(**given: Any) -> None:
            if "partition" in given:
                raise NameError("Parameter 'partition' need to be prefixed\nmore")
            parameters.update(given)

        def submit(training: Training) -> Any:
            if len(self.submitted) == self.most:
                raise RuntimeError("too many jobs\nmore")
            self.submitted.append({**parameters, "command": training._command})
            return self.job(str(len(self.submitted)), parameters["name"])

        return SimpleNamespace(update_parameters=update, submit=submit)

    def SlurmJob(self, folder: Path, job_id: str) -> Any:  # noqa: N802 - as submitit
        return self.job(job_id, "")

    def job(self, number: str, name: str) -> Any:
        answers = iter([False, True])
        failed = name in self.failing
        return SimpleNamespace(
            job_id=number,
            done=lambda: next(answers),
            exception=lambda: RuntimeError("trace") if failed else None,
            stderr=lambda: "Traceback\nerror: no such image\n",
            paths=SimpleNamespace(stderr=Path("cluster") / f"{number}_log.err"),
            get_info=lambda mode: {"State": self.queued},
        )


@pytest.fixture
def slurm(monkeypatch: pytest.MonkeyPatch) -> FakeSlurm:
    module = FakeSlurm()
    monkeypatch.setitem(sys.modules, "submitit", module)
    monkeypatch.setattr("muhdi.workflows.sweeps.schedule._POLL_SECONDS", 0.0)
    return module


SETTINGS = {"timeout_min": 60, "slurm_additional_parameters": {"account": "us"}}


def handed_over(plan: SweepPlan, said: list[str]) -> Mapping[str, str]:
    engine = Cluster(plan.experiments, SETTINGS, said.append)
    return Schedule(plan.runs, engine, said.append, lambda now: None).run()


def test_jobs_wait_for_their_source_in_the_queue(plan: SweepPlan, slurm: FakeSlurm) -> None:
    assert handed_over(plan, []) == {}
    assert [job["name"] for job in slurm.submitted] == [run.name for run in plan.runs]
    parameters = [job["slurm_additional_parameters"] for job in slurm.submitted]
    assert parameters[:2] == [{"account": "us"}] * 2
    waits = {"account": "us", "kill_on_invalid_dep": "yes"}
    assert parameters[2] == waits | {"dependency": "afterok:1"}
    assert parameters[-1] == waits | {"dependency": "afterok:2"}
    assert slurm.submitted[0]["cluster"] == "slurm"
    assert slurm.submitted[2]["command"] == plan.runs[2].job.command(plan.experiments)


def test_jobs_that_are_still_queued_are_found_again(plan: SweepPlan, slurm: FakeSlurm) -> None:
    handed_over(plan, [])
    slurm.queued = "PENDING"
    handed_over(plan, [])
    assert len(slurm.submitted) == 10
    slurm.queued = "FAILED"
    handed_over(plan, [])
    assert len(slurm.submitted) == 20


def test_a_queued_job_with_other_settings_is_not_taken_for_the_run(
    plan: SweepPlan, slurm: FakeSlurm
) -> None:
    handed_over(plan, [])
    slurm.queued = "PENDING"
    last = plan.runs[-1]
    other = replace(last, job=last.job.changed("every_step.learning_rate=0.1"))
    runs = [*plan.runs[:-1], other]
    engine = Cluster(plan.experiments, SETTINGS, print)
    failures = Schedule(runs, engine, lambda line: None, lambda now: None).run()
    assert failures == {
        last.name: "job 10 is in the queue for a run of this name with other settings; scancel 10,"
        " or give the recipe another name"
    }
    assert len(slurm.submitted) == 10


def test_the_others_go_on_when_the_cluster_refuses_a_job(plan: SweepPlan, slurm: FakeSlurm) -> None:
    slurm.most = 9
    failures = handed_over(plan, [])
    assert failures == {
        plan.runs[-1].name: "the cluster refuses it: too many jobs; the same command hands over"
        " what is missing"
    }
    assert len(slurm.submitted) == 9


def test_a_job_that_fails_says_why(plan: SweepPlan, slurm: FakeSlurm) -> None:
    slurm.failing = {plan.runs[2].name}
    assert handed_over(plan, []) == {
        plan.runs[2].name: f"job 3 failed: no such image ({Path('cluster')}/3_log.err)"
    }


def test_jobs_go_on_when_the_sweep_is_stopped(plan: SweepPlan, slurm: FakeSlurm) -> None:
    said: list[str] = []
    Cluster(plan.experiments, SETTINGS, said.append).stop()
    assert said == ["the jobs stay in the queue: the same command watches them, scancel ends them"]


def test_a_job_saves_its_run_before_it_is_queued_again(monkeypatch: pytest.MonkeyPatch) -> None:
    helpers = ModuleType("submitit.helpers")
    helpers.DelayedSubmission = lambda function: function
    monkeypatch.setitem(sys.modules, "submitit", ModuleType("submitit"))
    monkeypatch.setitem(sys.modules, "submitit.helpers", helpers)
    command = [sys.executable, "-c", "import time; print('on', flush=True); time.sleep(60)"]
    training = Training(command)
    training._process = subprocess.Popen(command, stdout=subprocess.PIPE)
    training._process.stdout.readline()
    again = training.checkpoint()
    assert training._process.returncode == -signal.SIGTERM
    assert (again._command, again._process) == (command, None)


def test_a_training_does_not_hear_the_signal_of_submitit(tmp_path: Path) -> None:
    code = (
        "import os, pathlib, signal, sys, time\n"
        "os.kill(os.getpid(), signal.SIGUSR2)\n"
        f"pathlib.Path({str(tmp_path / 'lives')!r}).touch()\n"
        "sys.exit(3)"
    )
    with pytest.raises(RunError, match="ended with status 3"):
        Training([sys.executable, "-c", code])()
    assert (tmp_path / "lives").exists()


def test_what_a_cluster_refuses_is_one_line(
    plan: SweepPlan, slurm: FakeSlurm, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "wrong.yml"
    file.write_text("timeout_min: 5\npartition: gpu\n")
    with pytest.raises(RecipeError, match="--cluster: submitit says: Parameter 'partition' need"):
        Where(cluster=file).engine(plan, print)
    with pytest.raises(RecipeError, match="--cluster: timeout_min is missing"):
        Where(cluster={}).engine(plan, print)
    with pytest.raises(RecipeError, match=r"nowhere\.yml: there is no such file"):
        Where(cluster="nowhere.yml").engine(plan, print)
    with pytest.raises(RecipeError, match="--jobs: with --cluster the cluster decides"):
        Where(jobs=2, cluster=SETTINGS).engine(plan, print)
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(RecipeError, match=r"submitit is not installed; pip install 'muhdi\[cl"):
        Where(cluster=SETTINGS).engine(plan, print)


# --- the command line -----------------------------------------------------------------------------


def test_a_dry_run_prints_commands_and_writes_nothing(
    muhdi: Muhdi, tiny: Tiny, tmp_path: Path
) -> None:
    words = ("sweep", tiny(), "--seed", 1, "--orders", "reverse")
    before = sorted(tmp_path.iterdir())
    status, output, errors = muhdi(*words, "--dry-run", "--set", "evaluation.statistics=[image]")
    assert status == 0, errors
    lines = [shlex.split(line) for line in output.splitlines()]
    assert [line[:2] for line in lines] == [["muhdi", "train"]] * 3
    assert "steps=[]" in lines[0]
    assert [line[line.index("--order") + 1] for line in lines[1:]] == ["city,night", "night,city"]
    assert all("evaluation.statistics=[image]" in line for line in lines)
    assert errors == "The first one trains a source, which the others start from.\n"
    assert sorted(tmp_path.iterdir()) == before
    status, _, errors = muhdi(*words, "--dry-run", "--jobs", 2)
    assert (status, "--jobs: --dry-run prints the commands alone" in errors) == (2, True)


def test_recipes_that_are_no_files_have_no_command() -> None:
    with pytest.raises(RecipeError, match="recipes: must be of type str or Path"):
        sweep_commands([Recipe.load("scenes")], [1])


@pytest.mark.usefixtures("sweeps_in_this_process")
def test_a_sweep_over_orders_ends_with_tables_a_page_and_scores(
    muhdi: Muhdi, tiny: Tiny, tmp_path: Path
) -> None:
    recipe = tiny(every_step={"iterations": 1, "batch_size": 2})
    words = ("sweep", recipe, "--seed", 1, "--orders", "night,city", "--orders", "city,night")
    words += ("--set", "evaluation.statistics=[image]")
    words += ("--set", "evaluation.default=image", "--set", "source_training.iterations=1")
    status, _, errors = muhdi(*words, "--control", "tiny_order_x")
    assert (status, "no such arm" in errors) == (2, True)
    assert not (tmp_path / "experiments").exists()

    status, output, errors = muhdi(*words)
    assert status == 0, errors
    assert "tiny_order_night-city_seed1: done" in errors
    assert "Holm's correction for 1 arm" in output
    assert "All scores: experiments/scores.csv" in output
    rows = list(csv.DictReader((tmp_path / "experiments" / "scores.csv").open()))
    assert {row["run"] for row in rows} == {
        "tiny_order_night-city_seed1",
        "tiny_order_city-night_seed1",
    }
    page = (tmp_path / "experiments" / "comparison.html").read_text()
    # The charts have one axis for both orders.
    assert "step 2" in page
    status, again, errors = muhdi(*words)
    assert (status, again) == (0, output)
    assert "training" not in errors, "finished runs are not repeated"
