"""Where and how fast a recipe runs."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from muhdi.recipe.section import NotNegative, Positive, Section

LoggerName = Literal["tensorboard", "jsonl", "wandb", "mlflow"]


class RuntimeConfig(Section):
    """Where and how fast. It may differ on resuming, and only `devices` can change results."""

    device: Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:\d{1,3})?)$")] = "auto"
    """`cpu`, `cuda` or `cuda:1`; `auto`: a GPU where there is one."""
    devices: Positive | Literal["auto"] = 1
    """How many devices a machine uses; `auto`: all that it has. With `model.batch_norm: batch` the
    number changes whose statistics a network trains with."""
    nodes: Positive = 1
    """Number of machines."""
    strategy: Literal["auto", "ddp"] = "auto"
    """`ddp`: a process per device; `auto`: that where there are several."""
    workers: NotNegative = 0
    """Processes that load images ahead, for each training process; 0: it loads them itself."""
    memory_mb: NotNegative = 1024
    """MiB of decoded images that each process keeps."""
    cache: str | None = None
    """Folder where decoded and resized images are kept between runs; none: they are not."""
    root: str = "."
    """Folder where relative paths of data sets begin. A run directory keeps it as an absolute path,
    so that the run is scored on the same images wherever that is done."""
    snapshots: str = "experiments/snapshots"
    """Folder of run directories."""
    logs: str = "experiments/logs"
    """Folder of TensorBoard events."""
    log_every: Positive = 10
    """Iterations between two lines of losses."""
    save_every: Positive = 1000
    """Iterations between two training states."""
    keep: Positive = 2
    """Training states that stay."""
    skip_bad: NotNegative = 0
    """Batches that each stage may leave out because a loss or a gradient is not finite; 0: the
    first one stops the run, and no iteration has to wait to be looked at."""
    loggers: list[LoggerName] = ["tensorboard", "jsonl"]
    """Who gets losses, scores, sample images and the report."""
