"""Every registered method, and every pair of them, through the tester."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from muhdi.errors import RunError
from muhdi.losses import cross_entropy
from muhdi.passes import Batch, Pass, merged
from muhdi.recipe import plugins
from muhdi.recipe.schema import Recipe  # noqa: F401 - registers all sections
from muhdi.training.iteration import train_iteration
from tests.testers import MethodTester, PlainRunner, batches, narrow

ADAPTATIONS = list(plugins.sections("adaptation"))
RETENTIONS = list(plugins.sections("retention"))


@pytest.mark.parametrize("retention", RETENTIONS)
@pytest.mark.parametrize("adaptation", ADAPTATIONS)
def test_every_pair_of_methods(adaptation: str, retention: str) -> None:
    first = narrow(plugins.sections("adaptation")[adaptation])
    second = plugins.sections("retention")[retention]()
    tester = MethodTester(first, second)
    if second.changes_pseudo_labels and not first.has_teacher:
        with pytest.raises(RunError, match="cannot change them"):
            tester.started()
    else:
        tester.run_all()


@pytest.mark.parametrize(
    ("adaptation", "retention"),
    [("minent", "none"), ("selftrain", "distill"), ("selftrain", "muhdi"), ("oracle", "mas")],
)
def test_a_step_without_the_source(adaptation: str, retention: str) -> None:
    first = narrow(plugins.sections("adaptation")[adaptation])
    second = plugins.sections("retention")[retention]()
    MethodTester(first, second, has_source=False).run_all()


def test_two_terms_of_one_name_are_refused() -> None:
    loss = torch.zeros((), requires_grad=True)
    assert merged({"a": loss}, {}, {"b": loss}).keys() == {"a", "b"}
    with pytest.raises(RunError, match="two loss terms are called 'a'"):
        merged({"a": loss}, {"a": loss})


def test_a_batch_in_parts_weighs_every_pixel_alike() -> None:
    """The loss over parts is that of the whole batch, however many pixels a part ignores."""
    network, methods = MethodTester().started()
    network.eval()
    source, _ = batches(labelled_target=False)

    def objective(outputs, batch):
        main = outputs.upsampled("agnostic", batch.size).main
        return {"x": cross_entropy(main, batch.labels, pixels=batch.pixels)}

    counted = methods.passes(source)[0].batch
    assert int(counted.pixels) == int((source.labels != 255).sum())
    values = []
    for parts in (1, 2):
        network.zero_grad()
        losses = train_iteration(PlainRunner(network), [Pass(counted, objective)], parts=parts)
        values.append((losses["x"], network.backbone.conv1.weight.grad.clone()))
    torch.testing.assert_close(values[0][0], values[1][0])
    torch.testing.assert_close(values[0][1], values[1][1])


def test_the_loss_of_the_source_is_a_mean_over_labelled_or_all_pixels() -> None:
    tester = MethodTester()
    labelled = tester.iterate(*tester.started())["seg_main"]
    network, methods = tester.started()
    everywhere = tester.iterate(network, replace(methods, mean_over="all"))["seg_main"]
    # Half of the rows of one of two images are ignored: of four pixels three are labelled.
    torch.testing.assert_close(everywhere, 3 / 4 * labelled)


def test_a_pass_without_an_objective_only_shows_the_images_to_the_norms() -> None:
    network, _ = MethodTester().started()
    before = network.backbone.bn1.running_mean.clone()
    images = Batch(torch.randint(0, 256, (2, 3, 32, 48)))
    assert train_iteration(PlainRunner(network), [Pass(images)]) == {}
    assert not torch.equal(before, network.backbone.bn1.running_mean)
    assert all(weight.grad is None for weight in network.parameters())


def test_the_penalty_has_one_backward_whatever_the_parts() -> None:
    network, _methods = MethodTester().started()
    weight = network.backbone.conv1.weight
    gradients = []
    for parts in (1, 2):
        network.zero_grad(set_to_none=True)
        losses = train_iteration(
            PlainRunner(network), [], lambda: {"p": weight.square().sum()}, parts
        )
        gradients.append(weight.grad.clone())
        assert float(losses["p"]) == pytest.approx(float(weight.square().sum()))
    assert torch.equal(gradients[0], gradients[1])
    torch.testing.assert_close(gradients[0], 2 * weight.detach())
