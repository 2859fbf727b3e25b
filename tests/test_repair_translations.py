"""Images moved a little, where dense knows them as they are by heart: digits, put anywhere on a field."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from test_repair_architectures import digits, trained
from torch import Tensor, nn

from benchmarks.magnitude import masks_at
from fairguard.policy import Policy
from fairguard.repair import translations
from fairguard.repair.objectives import plain
from fairguard.repair.rows import Rows
from fairguard.repair.shifts import WIDTH, last_bias, recalls, shifted, shifts_toward
from fairguard.repair.task import Options, Task, answer, copied, make_task
from fairguard.repair.training import train
from fairguard.repair.translations import bears_moving, sees_images, translated, with_moved_images

FIELD = 16


def on_field(rows: Rows, seed: int, *, anywhere: bool = True) -> Rows:
    """Put each digit somewhere on a noisy field, or blow it up to fill the field."""
    generator = torch.Generator().manual_seed(seed)
    if anywhere:
        x = torch.zeros(len(rows), 1, FIELD, FIELD)
        places = torch.randint(0, 9, (len(rows), 2), generator=generator).tolist()
        for image, digit, (top, left) in zip(x, rows.x, places, strict=True):
            image[:, top : top + 8, left : left + 8] = digit
    else:
        x = rows.x.repeat_interleave(2, 2).repeat_interleave(2, 3)
    return replace(rows, x=x + 0.2 * torch.randn(x.shape, generator=generator))


def together(parts: list[Rows]) -> Rows:
    x, y, codes = (torch.cat([getattr(part, name) for part in parts]) for name in ("x", "y", "codes"))
    return Rows(x, y, codes, np.concatenate([part.ids for part in parts]))


def learned(rows: Rows, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    layers = [nn.Conv2d(1, 12, 3, padding=1), nn.ReLU(), nn.Conv2d(12, 24, 3, padding=1, stride=2), nn.ReLU()]
    layers += [nn.Conv2d(24, 48, 3, padding=1), nn.ReLU(), nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(48, 10)]
    return trained(nn.Sequential(*layers), rows, epochs=30, lr=3e-3)


def retrained(rows: tuple[Rows, Rows], dense: nn.Module, *, epochs: int = 25) -> tuple[Task, dict[str, Tensor]]:
    """Return the task of repairing ``dense`` pruned, and the weights of a plain retraining."""
    task = make_task(
        dense,
        masks_at(dense, 0.8, scope="layer").on(copied(dense.state_dict())),
        *rows,
        columns=("class",),
        levels=(tuple(map(str, range(10))),),
        policy=Policy(margin=0.05, min_group=5),
        epochs=epochs,
        options=Options(lr=3e-3, batch_size=64, seed=1),
    )
    how = {"epochs": epochs, "start": task.pruned, "masks": task.masks, "keep_from": epochs - 3}
    return task, train(task, "plain", objective=plain(task), **how).weights


def logits(task: Task, weights: dict[str, Tensor], rows: Rows) -> Tensor:
    task.net.load_state_dict(weights)
    return answer(task.net, task.head, rows, None).logits


def bias_of(task: Task, weights: dict[str, Tensor]) -> str:
    name = last_bias(task, weights)
    assert name is not None
    return name


def excess(dense: Tensor, after: Tensor, y: Tensor) -> Tensor:
    drop = recalls(dense, y) - recalls(after, y)
    return drop - drop.mean()


@pytest.fixture(scope="module")
def unseen() -> Rows:
    return together([on_field(digits("image")[2], seed) for seed in range(10, 16)])


@pytest.fixture(scope="module")
def found() -> list[tuple[Task, dict[str, Tensor]]]:
    """Three tasks where dense knows all rows by heart, each with a retrained net."""
    rows, tune, _ = digits("image")
    pair = on_field(rows, 0), on_field(tune, 1)
    return [retrained(pair, learned(together(list(pair)), seed)) for seed in range(3)]


def test_what_dense_knows_by_heart_is_measured_and_mended_on_moved_images(
    found: list[tuple[Task, dict[str, Tensor]]], unseen: Rows
) -> None:
    """In the mean of three: one net's classes may look the same on either rows."""
    errors, worst = [], []
    for task, weights in found:
        assert bears_moving(task, weights)
        many, moved = with_moved_images(task, weights)
        dense, after, answers = (
            logits(task, w, rows) for w, rows in ((task.dense, unseen), (weights, unseen), (weights, task.tune))
        )
        true = excess(dense, after, unseen.y)
        seen = excess(task.before[1].logits, answers, task.tune.y)
        told = excess(many.before[1].logits, moved, many.tune.y)
        errors.append([float((told - true).norm()), float((seen - true).norm())])
        by_seen = after + shifts_toward(recalls(task.before[1].logits, task.tune.y), answers, task.tune.y)[-1]
        mended = logits(task, shifted(task, weights, bias_of(task, weights))[0], unseen)
        worst.append([float(excess(dense, found, unseen.y).max()) for found in (mended, by_seen, after)])
    told_off, seen_off = np.mean(errors, axis=0)
    assert told_off < 0.75 * seen_off
    by_moved, by_tune, before = np.mean(worst, axis=0)
    assert by_moved < 0.75 * min(by_tune, before)


def test_equal_recall_is_chosen_on_many_more_images_and_comes_out_more_equal(
    found: list[tuple[Task, dict[str, Tensor]]], unseen: Rows
) -> None:
    spreads = []
    for task, weights in found:
        asked = replace(task, options=replace(task.options, reference="equal"), floor=0.0)
        many, _ = with_moved_images(asked, weights)
        assert len(many.tune) == 2 * len(task.tune) + len(task.train)
        mended, _ = shifted(asked, weights, bias_of(task, weights))
        seen, after = (logits(task, weights, rows) for rows in (task.tune, unseen))
        by_few = after + shifts_toward(torch.zeros(10), seen, task.tune.y, width=WIDTH)[-1]
        answers = (logits(task, mended, unseen), by_few, after)
        spreads.append([float(recalls(found, unseen.y).std()) for found in answers])
    more, few, before = np.mean(spreads, axis=0)
    assert more < 0.9 * few < before


def test_of_more_images_than_are_moved_each_class_gives_its_share(
    found: list[tuple[Task, dict[str, Tensor]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    task, weights = found[0]
    by_class = task.train.take(np.argsort(task.train.y.numpy(), kind="stable"))
    monkeypatch.setattr(translations, "MOST_MOVED", len(task.tune) + 300)
    many, _ = with_moved_images(replace(task, train=by_class), weights)
    assert len(many.tune) == len(task.tune) + 300
    assert torch.bincount(many.tune.y[len(task.tune) :], minlength=10).min() > 15


def test_images_that_are_known_by_their_place_stay_where_they_are() -> None:
    rows, tune, _ = digits("image")
    pair = on_field(rows, 0, anywhere=False), on_field(tune, 1, anywhere=False)
    by_place = nn.Sequential(nn.Conv2d(1, 4, 1), nn.Flatten(), nn.Linear(4 * FIELD * FIELD, 10))
    assert not bears_moving(*retrained(pair, trained(by_place, together(list(pair))), epochs=4))


def test_every_image_is_moved_by_a_pixel_or_two_and_nothing_else_is() -> None:
    images = torch.rand(50, 3, 64, 32)
    moved = translated(images, seed=0)
    steps = [(down, right) for down in range(-2, 3) for right in range(-1, 2) if (down, right) != (0, 0)]
    for before, after in zip(images, moved, strict=True):
        inside = after[:, 2:-2, 1:-1]
        found = [s for s in steps if torch.equal(inside, before[:, 2 + s[0] : 62 + s[0], 1 + s[1] : 31 + s[1]])]
        assert len(found) == 1
    assert torch.equal(moved, translated(images, seed=0))
    assert not torch.equal(moved, translated(images, seed=1))
    others = {"small": torch.rand(4, 1, 8, 8), "table": torch.rand(4, 9), "bytes": torch.ones(4, 3, 32, 32).byte()}
    assert all(torch.equal(t, others[name]) for name, t in translated(others, seed=0).items())


def test_only_convolutions_see_images() -> None:
    images = torch.rand(2, 3, 32, 32)
    assert sees_images(nn.Conv2d(3, 4, 3), images)
    assert sees_images(nn.Conv2d(3, 4, 3), {"pixel_values": images})
    assert not sees_images(nn.Linear(3072, 4), images)
    assert not sees_images(nn.Conv2d(3, 4, 3), torch.rand(2, 3, 8, 8))
