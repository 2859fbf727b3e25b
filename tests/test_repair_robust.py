"""Nets and machines that are not the usual ones: little memory, rows off the device, odd answers, odd state dicts."""

import io
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from test_repair_training import rows, task_of
from torch import Tensor, nn

from benchmarks.magnitude import masks_at
from fairguard.errors import ModelError
from fairguard.inputs.models import load_model
from fairguard.policy import Policy
from fairguard.repair import nets
from fairguard.repair.methods import ballot, chita, method_named, safecompress
from fairguard.repair.nets import halving, lay_out, refresh_batch_norm
from fairguard.repair.preparing import float_copy, float_weights
from fairguard.repair.rows import Rows
from fairguard.repair.task import Options, Task, answer, copied, make_task, placed

TRAIN, TUNE = rows(1500, 0), rows(400, 1)


class Net(nn.Module):
    """Two layers, and whatever a test puts around them."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(8, 16), nn.Linear(16, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.relu(self.first(x)))


def task_with(net: nn.Module, *, train: Rows = TRAIN, tune: Rows = TUNE, **options: Any) -> Task:
    """Return the task of repairing ``net`` at half its weights, untrained as it is."""
    pruned = masks_at(net, 0.5).on(copied(net.state_dict()))
    how: dict[str, Any] = {"columns": ("g",), "levels": (("a", "b"),), "policy": Policy(), "epochs": 3}
    return make_task(net, pruned, train, tune, options=Options(lr=5e-3, batch_size=64, **options), **how)


def is_one_line(error: pytest.ExceptionInfo[ModelError]) -> bool:
    return len(str(error.value).splitlines()) == 1


class Narrow(Net):
    """Has memory for so many rows at a time, as a full device would."""

    room = 100

    def forward(self, x: Tensor) -> Tensor:
        if len(x) > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return super().forward(x)


def test_out_of_memory_asks_for_fewer_rows_and_gives_the_same_answers() -> None:
    torch.manual_seed(0)
    narrow, wide = Narrow(), Net()
    wide.load_state_dict(narrow.state_dict())
    task = task_with(narrow)
    for part, split in zip(task.before, (TRAIN, TUNE), strict=True):
        torch.testing.assert_close(part.logits, answer(wide, task.head, split, None).logits)
    narrow.room = 1
    assert ballot.select_and_train(replace(task, epochs=2)).score.accuracy > 0


def test_a_net_that_takes_no_single_row_is_refused_in_one_line() -> None:
    task = task_with(narrow := Narrow())
    narrow.room = 0
    with pytest.raises(ModelError, match=r"out of memory with 1 row at a time.*--device cpu") as caught:
        answer(narrow, task.head, TUNE, None)
    assert is_one_line(caught)
    with pytest.raises(ModelError, match="out of memory with 1 row at a time"):
        task_with(narrow)


def test_sizes_are_halved_until_one_fits() -> None:
    tried = []

    def work(size: int) -> int:
        tried.append(size)
        if size > 3:
            raise torch.OutOfMemoryError
        return size

    assert halving(work, 20) == 3
    assert tried == [20, 10, 5, 3]


class Convolved(nn.Module):
    def __init__(self, room: int) -> None:
        super().__init__()
        self.room, self.inner, self.norm = room, nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4)
        self.last = nn.Linear(4 * 36, 2)

    def forward(self, x: Tensor) -> Tensor:
        if len(x) > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return self.last(torch.relu(self.norm(self.inner(x))).flatten(1))


def test_lack_of_memory_says_nothing_of_the_order_of_memory() -> None:
    net = Convolved(10)
    with pytest.raises(torch.OutOfMemoryError):
        lay_out(net, torch.randn(20, 2, 8, 8))
    assert net.inner.weight.is_contiguous(memory_format=torch.channels_last)


def test_statistics_are_refreshed_in_little_memory_too() -> None:
    torch.manual_seed(0)
    images = Rows(3 + torch.randn(512, 2, 8, 8), TRAIN.y[:512], TRAIN.codes[:512], np.arange(512))
    wide, narrow = Convolved(1000), Convolved(100)
    narrow.load_state_dict(wide.state_dict())
    for net in (wide, narrow):
        refresh_batch_norm(net, images, seed=0)
    torch.testing.assert_close(narrow.norm.running_mean, wide.norm.running_mean, atol=1e-3, rtol=1e-3)
    assert int(narrow.norm.num_batches_tracked) == 8


def test_all_batches_are_fetched_at_once_so_that_copies_can_overlap(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    fetched = nets.fetched

    def noted(x: Any, batches: Any, device: torch.device) -> Iterator[tuple[Tensor, Any]]:
        calls.append(len(batches))
        return fetched(x, batches, device)

    task = task_with(Net())
    monkeypatch.setattr(nets, "fetched", noted)
    answer(task.net, task.head, TRAIN, None)
    assert calls == [2], "1,024 rows and the rest"


# Devices


def tensors_in(part: Any) -> Iterator[Tensor]:
    """Yield every tensor of a task, but for what stays on the host on purpose: features may, and identifiers do."""
    if isinstance(part, Tensor):
        yield part
    elif isinstance(part, nn.Module):
        yield from part.state_dict().values()
    elif isinstance(part, Rows):
        yield from (part.y, part.codes)
    elif is_dataclass(part):
        for field in fields(part):
            yield from tensors_in(getattr(part, field.name))
    elif isinstance(part, dict | list | tuple):
        for inner in part.values() if isinstance(part, dict) else part:
            yield from tensors_in(inner)


def test_weights_and_masks_go_where_they_are_put() -> None:
    task, meta = task_with(Net()), torch.device("meta")
    assert {t.device.type for t in tensors_in(task)} == {"cpu"}
    assert {t.device for t in tensors_in(placed(task.masks, meta))} == {meta}
    assert {t.device for t in tensors_in(copied(task.pruned, device=meta))} == {meta}


def test_what_a_task_is_given_elsewhere_goes_to_its_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """With no second device at hand: whatever ``make_task`` is given passes through what puts it there."""
    asked: list[tuple[str, torch.device]] = []

    def noted(name: str, change: Callable[..., Any]) -> Callable[..., Any]:
        def call(given: Any, device: torch.device | None = None) -> Any:
            if device is not None:
                asked.append((name, device))
            return change(given, **({} if device is None else {"device": device}))

        return call

    monkeypatch.setattr("fairguard.repair.task.copied", noted("weights", copied))
    monkeypatch.setattr("fairguard.repair.task.placed", noted("masks", placed))
    task_with(Net())
    assert asked == [("weights", TRAIN.y.device), ("masks", TRAIN.y.device)]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("held", ["device", "host"])
def test_a_task_lies_on_one_device_and_methods_fetch_rows_from_the_host(
    held: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = torch.device("cuda", 0)
    monkeypatch.setattr("fairguard.repair.rows.fits", lambda *_, **__: held == "device")
    train, tune = TRAIN.to(device), TUNE.to(device)
    assert train.x.device.type == ("cuda" if held == "device" else "cpu")
    assert not train.x.is_pinned()
    net = Net()
    pruned = masks_at(net, 0.5).on(copied(net.state_dict()))
    how: dict[str, Any] = {"columns": ("g",), "levels": (("a", "b"),), "policy": Policy(), "epochs": 3}
    task = make_task(net.to(device), pruned, train, tune, options=Options(batch_size=64), **how)
    assert {t.device for t in tensors_in(task)} == {device}
    assert all(method_named(name)(task).score.accuracy > 0 for name in ("chita", "safecompress", "mask-only", "ballot"))


@pytest.mark.parametrize("method", [chita, safecompress])
def test_rows_are_fetched_to_the_device_wherever_they_live(method: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    fetched = nets.fetched

    def noted(x: Any, batches: Any, device: torch.device) -> Iterator[tuple[Tensor, Any]]:
        seen.append(device)
        return fetched(x, batches, device)

    task = task_with(Net())
    monkeypatch.setattr(method, "fetched", noted)
    method.select_and_train(task)
    assert set(seen) == {task.device}
    assert not hasattr(method, "picked"), "what indexes rows where they live is no method's business"


@pytest.mark.parametrize("method", ["chita", "mask-only"])
def test_gradients_in_eval_mode_are_taken_without_cudnn(method: str) -> None:
    """Its recurrent nets have no backward pass there."""
    seen: list[bool] = []

    class Noting(Net):
        def __init__(self, recurrent: bool) -> None:
            super().__init__()
            self.recurrent = nn.GRU(8, 8, batch_first=True) if recurrent else None

        def forward(self, x: Tensor) -> Tensor:
            if torch.is_grad_enabled() and not self.training:
                seen.append(torch.backends.cudnn.enabled)
            return super().forward(x if self.recurrent is None else self.recurrent(x[:, None])[0][:, 0])

    for recurrent in (True, False):  # others are the faster for it
        seen = []
        method_named(method)(task_with(Noting(recurrent)))
        assert seen
        assert all(on is not recurrent for on in seen)
        assert torch.backends.cudnn.enabled


# Answers


class Auxiliary(Net):
    """Has a head that helps training alone; the last of its layers, too."""

    def __init__(self) -> None:
        super().__init__()
        self.helper = nn.Linear(16, 2)

    def forward(self, x: Tensor) -> Tensor:
        hidden = torch.relu(self.first(x))
        return self.last(hidden) + (0.1 * self.helper(hidden) if self.training else 0.0)


@pytest.mark.parametrize("method", ["ballot", "mask-only", "chita", "ballot-lastlayer", "safecompress"])
def test_a_head_that_helps_training_alone_is_no_hindrance(method: str) -> None:
    torch.manual_seed(0)
    task = task_of(Auxiliary(), TRAIN, TUNE)
    assert "helper.weight" in task.masks.keep
    found = method_named(method)(task)
    assert all(bool(t.isfinite().all()) for t in found.weights.values())
    assert sum(int((found.weights[n] == 0).sum()) for n in task.masks.keep) >= task.masks.total - task.masks.kept


class Unused(Net):
    """Has a layer that no answer hangs on at all."""

    def __init__(self) -> None:
        super().__init__()
        self.spare = nn.Linear(16, 2)


def test_a_layer_that_nothing_hangs_on_is_no_hindrance_to_safecompress() -> None:
    assert safecompress.select_and_train(task_with(Unused())).score.accuracy > 0


def as_codes(scores: Tensor) -> Tensor:
    return scores.argmax(1)


def as_numbers(scores: Tensor) -> Tensor:
    return scores.argmax(1).float()


def as_flags(scores: Tensor) -> Tensor:
    return scores[:, 1] > scores[:, 0]


@pytest.mark.parametrize("change", [as_codes, as_numbers, as_flags, Tensor.detach])
def test_answers_without_a_gradient_are_refused_in_one_line(change: Callable[[Tensor], Tensor]) -> None:
    class Decided(Net):
        def forward(self, x: Tensor) -> Tensor:
            return change(super().forward(x))

    with pytest.raises(ModelError, match=r"no gradient .* needs scores or logits") as caught:
        task_with(Decided())
    assert is_one_line(caught)


class Tokens(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.last = nn.Embedding(9, 4, sparse=True), nn.Linear(32, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.embed(x.clamp(0, 8).long()).flatten(1))


def tokens(split: Rows) -> Rows:
    return replace(split, x=(split.x * 3 + 4).round())


def test_an_embedding_of_sparse_gradients_is_repaired() -> None:
    task = task_with(float_copy(load_model(Tokens(), device="cpu"), "dense"), train=tokens(TRAIN), tune=tokens(TUNE))
    assert not torch.equal(ballot.select_and_train(task).weights["embed.weight"], task.dense["embed.weight"])


def test_sparse_gradients_that_no_option_ends_are_refused_in_one_line() -> None:
    torch.jit.save(torch.jit.script(Tokens()), file := io.BytesIO())
    file.seek(0)
    with pytest.raises(ModelError, match=r"embed\.weight is sparse.*sparse=False") as caught:
        task_with(torch.jit.load(file), train=tokens(TRAIN), tune=tokens(TUNE))
    assert is_one_line(caught)


class Noted(Net):
    """Keeps something beside its weights that is no tensor; so does a part of it."""

    def __init__(self) -> None:
        super().__init__()
        self.first = NotedLayer(8, 16)
        self.note = {"version": 1}

    def get_extra_state(self) -> dict[str, int]:
        return self.note

    def set_extra_state(self, state: dict[str, int]) -> None:
        self.note = state


class NotedLayer(nn.Linear):
    def get_extra_state(self) -> str:
        return "anything"

    def set_extra_state(self, state: str) -> None:
        assert state == "anything"


def test_what_a_module_keeps_beside_its_weights_is_passed_over() -> None:
    opened = load_model(Noted(), device="cpu")
    net = float_copy(opened, "dense")
    names = ["first.weight", "first.bias", "last.weight", "last.bias"]
    assert list(net.state_dict()) == list(float_weights(opened, "pruned")) == names
    assert list(copied(Noted().state_dict())) == names
    net.note = {"version": 2}
    task = task_with(net)
    found = ballot.select_and_train(task)
    assert sorted(found.weights) == sorted(names)
    assert task.score_of(found.weights) == found.score
    assert net.note == {"version": 2}, "and the net keeps it"
    with pytest.raises(RuntimeError, match=r"Missing key.*last\.bias"):
        net.load_state_dict({name: t for name, t in found.weights.items() if name != "last.bias"})


def test_packed_integers_are_still_told_from_that() -> None:
    class Packed(Net):
        def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
            super()._save_to_state_dict(destination, prefix, keep_vars)
            destination[f"{prefix}_packed_params"] = (1, 2)

    with pytest.raises(ModelError, match=r"quantised \(_packed_params\)"):
        float_weights(load_model(Packed(), device="cpu"), "pruned")


# Half precision


def test_probabilities_are_never_trained_in_half_precision() -> None:
    """In bfloat16 the sigmoid of 8 is 1, whose logarithm has no gradient left."""

    class Sure(Net):
        def __init__(self, *, probabilities: bool) -> None:
            super().__init__()
            self.last, self.probabilities = nn.Linear(16, 1), probabilities

        def forward(self, x: Tensor) -> Tensor:
            score = 8 + super().forward(torch.tanh(x))
            return score.sigmoid() if self.probabilities else score

    def felt(net: nn.Module, task: Task, *, amp: bool) -> float:
        with torch.autocast("cpu", torch.bfloat16, enabled=amp):
            logits = task.logits(net, TRAIN.x)
        loss = nn.functional.cross_entropy(logits, torch.zeros(len(TRAIN), dtype=torch.long))
        return float(torch.autograd.grad(loss, net.first.weight)[0].abs().sum())

    torch.manual_seed(0)
    net = Sure(probabilities=True)
    task = task_with(net, amp=True)
    assert task.head.probabilities
    assert felt(net, task, amp=True) == 0.0
    assert felt(net, task, amp=task.options.amp) > 0.0
    assert task_with(Sure(probabilities=False), amp=True).options.amp, "scores are"
    assert not task.options.amp
