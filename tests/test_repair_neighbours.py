"""Neighbours: rows changed a little, where dense's answers are learned too, so that FAIR is like dense off its rows."""

from dataclasses import replace

import pytest
import torch
from test_repair_training import rows, small_net, task_of
from torch import Tensor
from torch.nn import functional as F

from fairguard.repair.methods import ballot
from fairguard.repair.neighbours import AT_ONCE, TAKEN, TRUST, TRUST_OF_MANY, Changes, neighbours_of
from fairguard.repair.objectives import Objective, fair
from fairguard.repair.rows import Rows, fits, nbytes, shuffled
from fairguard.repair.task import Answers, Task, answer


@pytest.fixture(scope="module")
def task() -> Task:
    torch.manual_seed(0)
    return task_of(small_net(), rows(1200, 0), rows(600, 1))


def changed(x: Tensor, seed: int) -> Tensor:
    return Changes(torch.Generator().manual_seed(seed))(x)


def test_tokens_and_their_mask_are_changed_alike() -> None:
    n = 1_000
    length = torch.randint(3, 32, (n,), generator=torch.Generator().manual_seed(0))
    mask = (torch.arange(32) < length[:, None]).long()
    ids = torch.randint(1, 1_000, (n, 32), generator=torch.Generator().manual_seed(1)) * mask
    moved = Changes(torch.Generator().manual_seed(0))({"ids": ids, "mask": mask})
    assert not torch.equal(moved["ids"], ids)
    assert torch.equal(moved["ids"] != 0, moved["mask"] == 1), "what is attended to is a token"


@pytest.mark.parametrize("kind", [torch.float32, torch.int64, torch.bool])
def test_a_changed_entry_is_one_that_its_column_holds(kind: torch.dtype) -> None:
    columns = torch.tensor([[0, 1], [100, 300], [7, 7]])
    x = columns.gather(1, torch.randint(0, 2, (3, 4000), generator=torch.Generator().manual_seed(0))).T.to(kind)
    moved = changed(x, 1)
    assert moved.dtype == kind
    assert moved.shape == x.shape
    for column, found in enumerate(moved.T):
        assert set(found.tolist()) <= set(x[:, column].tolist())
    if kind is not torch.bool:
        differ = (moved != x).float().mean(0)
        assert float(differ[2]) == 0
        assert 0.05 < float(differ[0]) < 0.1, "of the 15 % taken half are the same value"
    assert torch.equal(moved, changed(x, 1))
    assert kind is torch.bool or not torch.equal(moved, changed(x, 2))


def test_many_rows_are_changed_alike() -> None:
    x = torch.arange(2 * (AT_ONCE + 5_000)).view(-1, 2)
    moved = changed(x, 0)
    assert torch.equal(moved % 2, x % 2), "an entry stays in its column"
    for part in ((moved != x)[:AT_ONCE], (moved != x)[AT_ONCE:]):
        assert float(part.float().mean()) == pytest.approx(TAKEN, abs=0.01)


def test_a_neighbour_has_its_rows_label_and_groups_and_denses_own_answer(task: Task) -> None:
    n = len(task.train)
    found = neighbours_of(task)
    assert found is not None
    assert torch.equal(found.x[:n], task.train.x)
    assert torch.equal(found.y[n:], task.train.y)
    task.net.load_state_dict(task.dense)
    logits = task.net(found.x[n:]).detach()
    assert torch.allclose(found.before.logits[n:], logits, atol=1e-6)
    assert torch.equal(found.before.hits[n:, 0], (logits.argmax(1) == task.train.y).float())
    before, after = task.cells[0], found.cells
    assert before is not None
    assert after is not None
    assert torch.equal(after.atom[n:], before.atom)
    assert torch.equal(after.n_member / len(after.atom), before.n_member / n)
    assert torch.equal(after.scale, before.scale)


def test_cells_over_more_rows_than_train_keep_their_shares(task: Task) -> None:
    few = 100
    cells = task.cells[0]
    assert cells is not None
    twice = cells.twice(few)
    assert torch.equal(twice.atom[:few], cells.atom[:few])
    assert torch.equal(twice.atom[few : 2 * few], cells.atom[:few])
    assert torch.equal(twice.atom.bincount(), 2 * cells.atom.bincount())


def test_images_and_sequences_have_no_neighbours(task: Task) -> None:
    def fed(x: Tensor) -> Task:
        return replace(task, train=replace(task.train, x=(task.train.x, x)))

    assert neighbours_of(fed(torch.zeros(1200, 1, 4, 4))) is None
    assert neighbours_of(fed(torch.zeros(1200, 5, 2))) is None
    assert neighbours_of(fed(torch.zeros(1200))) is None, "a length belongs to its own row"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_neighbours_stay_in_main_memory_where_a_gpu_has_no_room(monkeypatch: pytest.MonkeyPatch, task: Task) -> None:
    x = task.train.x.cuda()
    assert fits(x, x.device, copies=3)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (4 * nbytes(x), 0))
    assert not fits(x, x.device, copies=3)
    assert neighbours_of(replace(task, train=replace(task.train, x=x))).x.device.type == "cpu"  # type: ignore[union-attr]


@pytest.mark.parametrize("size", [1, 2, 7, 32])
def test_half_of_every_batch_are_neighbours_and_every_row_has_one_part(size: int) -> None:
    batches = shuffled(224, size, seed=0, epoch=3, beside=True)
    assert torch.equal(batches % 224, shuffled(224, size, seed=0, epoch=3))
    assert ((batches >= 224).sum(1) == size // 2).all()


def test_a_neighbour_is_taught_denses_answer_and_no_label(task: Task) -> None:
    n = len(task.train)
    found = neighbours_of(task)
    assert found is not None
    objective = fair(task, neighbours=found)
    beside, logits = torch.arange(n, n + 50), found.before.logits[n : n + 50].clone().requires_grad_()
    objective(logits, beside).backward()
    assert float(logits.grad.abs().max()) < 1e-6  # type: ignore[union-attr]
    index, other = torch.arange(50), found.before.logits[:50].clone().requires_grad_()
    objective(other, index).backward()
    assert float(other.grad.abs().max()) > 1e-4, "a row is taught its label too"  # type: ignore[union-attr]
    wrong = -logits.detach()
    plainly = Objective(found.y, before=found.before, distil=1.0, labelled=n)
    answers = found.before.logits[n : n + 50].softmax(1)
    wanted = -(answers * wrong.log_softmax(1)).sum(1).mean()
    assert float(plainly(wrong, beside)) == pytest.approx(TRUST * float(wanted), rel=1e-5)
    third = Answers(F.pad(found.before.logits, (0, 1), value=-1e4), found.before.hits)
    many = Objective(found.y, before=third, distil=1.0, labelled=n)
    assert float(many(F.pad(wrong, (0, 1), value=-1e4), beside)) == pytest.approx(
        TRUST_OF_MANY * float(wanted), rel=1e-5
    )


def noisy(n: int, seed: int) -> Rows:
    """Rows of which 15 % have the wrong label, as rows of people have: dense learns them by heart."""
    found = rows(n, seed)
    wrong = torch.rand(n, generator=torch.Generator().manual_seed(seed)) < 0.15
    return replace(found, y=torch.where(wrong, 1 - found.y, found.y))


def test_with_neighbours_the_net_is_more_like_dense_on_rows_that_nothing_saw() -> None:
    unseen = rows(20_000, 99)
    differ = {True: 0.0, False: 0.0}
    for seed in range(3):
        torch.manual_seed(seed)
        task = replace(task_of(small_net(), noisy(600, 10 + seed), noisy(300, 50 + seed), batch_size=32), epochs=20)
        dense = answer(task.net, task.head, unseen, None).logits.argmax(1)
        for matched in differ:
            task.net.load_state_dict(ballot.select_and_train(task, ballot.Recipe(matched=matched)).weights)
            differ[matched] += float(
                (answer(task.net, task.head, unseen, None).logits.argmax(1) != dense).float().mean()
            )
    assert differ[True] < 0.9 * differ[False]
