"""Ways to choose and train a sparse model, by name. Each is one file over the shared loop and the shared masks.

A method is a module with ``select_and_train(task: Task) -> Candidate``; ``names`` says what there is to say of it. If
the budget or the net decide what it does, it has ``adapted(task: Task) -> tuple[Method, list[str]]`` too: what is to
run, and what the user should know of that, one sentence each. What it may count on and what it owes, in the words of
``tests/test_repair_methods.py`` and ``tests/test_repair_budget.py``:

* **It gets** a :class:`~fairguard.repair.task.Task`: dense's net (load into it what you like), the weights of dense and
  of PRUNED, rows to train on and to tune on, the constrained cells, dense's answers, and a budget in epochs. Never a
  row of the verdict. Everything lies on ``task.device``. Nothing in the task may be changed but the net.
* **Masks**: ``task.masks`` are PRUNED's. ``task.masks.select(scores)`` gives others of the same sparsity, scope and
  pattern (2:4, whole filters); a method that cannot keep a pattern raises a ``ModelError`` that names one that can.
* **Budget**: ``task.epochs`` passes over the train rows with gradients, and ``least`` of ``names`` where that is more.
  Training goes through :func:`~fairguard.repair.training.train`, which checkpoints, tells of each epoch once and
  chooses by the tune rows; ``replace(task, later=...)`` tells how many epochs are still to come after it.
* **Journal**: whatever takes epochs is a stage, ``task.journal.stage(name, work)``, under a name that no other stage
  has. ``work`` gives a dict of tensors and plain values. After a kill it is not called again, and the stage gives the
  same from its file, on the CPU: move tensors to ``task.device``. The same seed gives the same stages.
* **It returns** a :class:`~fairguard.repair.task.Candidate`: ``weights``, dense's whole state dict by its names, the
  entries outside ``masks`` being zero in it, so that it is at least as sparse as PRUNED; ``masks``; the ``epochs`` that
  it took; ``score``, ``task.score_of(weights)``; ``trials``, a dict of numbers for each candidate on the way.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from fairguard.errors import ConfigError, did_you_mean
from fairguard.repair.methods.names import METHODS

if TYPE_CHECKING:  # torch: names alone need none
    from collections.abc import Callable
    from types import ModuleType

    from fairguard.repair.task import Candidate, Task

    Method = Callable[[Task], Candidate]

__all__ = ["LEAST", "METHODS", "method_for", "method_named"]

LEAST = {name: traits.least for name, traits in METHODS.items()}
"""Epochs that a method trains for at least."""


def method_named(name: str) -> Method:
    """Return the method called ``name``.

    Raises:
        ConfigError: there is none.
    """
    found: Method = _module(name).select_and_train
    return found


def method_for(name: str, task: Task) -> tuple[Method, list[str]]:
    """Return the method called ``name`` as the task allows it, and what the user should know of that.

    Raises:
        ConfigError: there is none.
    """
    module = _module(name)
    if not hasattr(module, "adapted"):
        return module.select_and_train, []
    found: tuple[Method, list[str]] = module.adapted(task)
    return found


def _module(name: str) -> ModuleType:
    if name not in METHODS:
        hint = did_you_mean(name, METHODS) or f" Methods: {', '.join(METHODS)}."
        raise ConfigError(f"unknown repair method {name!r}.{hint}")
    return import_module(f"fairguard.repair.methods.{name.replace('-', '_')}")
