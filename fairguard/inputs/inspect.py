"""What ``fairguard inspect`` shows of a model file: what it is, what opening it needs, what its weights look like.

Looks without running: only with trust is a file that holds code opened.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fairguard.aligned import aligned
from fairguard.errors import FairguardError
from fairguard.files import sha256_of
from fairguard.inputs.detect import RECORDED, Found, Kind, detect
from fairguard.inputs.limits import DEFAULT, Limits, human
from fairguard.inputs.models import Factory, info_of, split_name
from fairguard.inputs.sparsity import overall
from fairguard.names import listed
from fairguard.verdict import Layer

if TYPE_CHECKING:
    from torch import nn


STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
"""What batch normalisation stores beside its parameters."""


@dataclass(frozen=True)
class Inspection:
    """What is known of one file.

    Attributes:
        path: the file.
        kind: what it is.
        size: bytes on disk.
        sha256: digest of its bytes.
        runs_code: whether opening it executes what it holds.
        imports: dotted names that it would import when opened, beyond those of plain tensors.
        needs: what has to be given with it, ``None`` where nothing is missing.
        architecture: its parts in one line.
        takes: the inputs of an ONNX graph: name, type and shape.
        gives: its outputs.
        holds: the sets of weights in a checkpoint that has several.
        answers: of recorded predictions, how many and how they are joined to rows.
        quantisation: how its weights are quantised, ``None`` where they are not.
        parameters: number of trained numbers.
        layers: its weight tensors.
    """

    path: Path
    kind: str
    size: int
    sha256: str
    runs_code: bool = False
    imports: tuple[str, ...] = ()
    needs: str | None = None
    architecture: str | None = None
    takes: str | None = None
    gives: str | None = None
    holds: str | None = None
    answers: str | None = None
    quantisation: str | None = None
    parameters: int | None = None
    layers: tuple[Layer, ...] = ()

    @property
    def sparsity(self) -> float:
        """Return the share of zeros among all weights, ``nan`` where none are known."""
        return overall(self.layers)

    def lines(self) -> list[str]:
        """Return the inspection as lines of text."""
        code = f"yes, it imports {listed(list(self.imports), most=8)}" if self.imports else "yes"
        facts = {
            "sha256": self.sha256,
            "runs code": code if self.runs_code else "no",
            "needs": self.needs,
            "architecture": self.architecture,
            "takes": self.takes,
            "gives": self.gives,
            "holds": self.holds,
            "answers": self.answers,
            "quantisation": self.quantisation,
            "weights": self._weights(),
        }
        head = f"{self.path}: {self.kind}, {human(self.size)}"
        return [head, *(f"  {name:<13} {fact}" for name, fact in facts.items() if fact is not None), *self._table()]

    def _weights(self) -> str | None:
        if self.parameters is None:
            return None
        zero = f", {100 * self.sparsity:.1f} % of the weights zero" if self.layers else ""
        return f"{self.parameters:,} parameters{zero}"

    def _table(self) -> list[str]:
        rows = [
            (layer.name, "x".join(map(str, layer.shape)), layer.dtype, f"{100 * layer.sparsity:.1f} %", layer.pattern)
            for layer in self.layers
        ]
        return [f"    {line.rstrip()}" for line in aligned(rows, right={3})]


def inspect_file(
    path: str | Path, *, factory: Factory | None = None, trust: bool = False, limits: Limits = DEFAULT
) -> Inspection:
    """Return what the file at ``path`` is.

    Args:
        path: a model file, a Hugging Face folder or a file of predictions.
        factory: what builds the architecture, to see whether the weights fit it.
        trust: whether a file that holds code may be opened, which runs it.
        limits: bounds on what the file may claim.

    Raises:
        ModelError: missing, broken or of no known kind.
    """
    where, name = split_name(str(path))
    found = detect(where, limits=limits)
    seen = Inspection(
        path=Path(path),
        kind=str(found.kind),
        size=found.size,
        sha256=sha256_of(where),
        runs_code=found.runs_code,
        imports=found.imports,
    )
    if found.runs_code and not trust:
        return replace(seen, needs=_instead_of_trust(found))
    if found.kind in RECORDED:
        return replace(seen, answers=_answers(found, str(path), name, limits))
    if found.kind is Kind.ONNX:
        return _onnx(seen, found, limits)
    if found.runs_code or found.kind is Kind.HF:
        return _module(seen, found, factory, limits, name)
    return _weights(seen, found, factory, limits, name)


def _instead_of_trust(found: Found) -> str:
    from fairguard.inputs.trusted import remedy

    return f"--trust if you made the file; else {remedy(found)}"


def _answers(found: Found, path: str, name: str | None, limits: Limits) -> str:
    from fairguard.inputs.recorded_files import open_recorded

    opened = open_recorded(found, info_of(found, path), name=name, limits=limits)
    what = f"scores of {opened.values.shape[1]} outputs" if opened.values.ndim == 2 else "labels"
    joined = "the row's number" if opened.ids is None else "id"
    classes = f", classes {listed(list(opened.classes))}" if opened.classes else ""
    return f"{len(opened.values):,} answers ({what}), joined by {joined}{classes}"


def _onnx(seen: Inspection, found: Found, limits: Limits) -> Inspection:
    from fairguard.inputs.onnx_files import inputs_and_outputs, layers_of, parameters_of, read_graph, whole_of

    model = read_graph(found, limits)
    layers = layers_of(model, found.path, rank=True)
    operators = [node.op_type for node in model.graph.node]
    takes, gives = inputs_and_outputs(model)
    sha256, size = whole_of(found, model)
    return replace(
        seen,
        sha256=sha256,
        size=size,
        takes=takes,
        gives=gives,
        needs="--output-key with the name of the output to judge" if _which(model) else None,
        architecture=_parts(operators),
        quantisation=_onnx_quantisation(set(operators), layers),
        parameters=parameters_of(model),
        layers=layers,
    )


def _which(model: Any) -> bool:
    """Return whether it is not clear which of the outputs are the scores."""
    names = [output.name for output in model.graph.output]
    return len(names) > 1 and "logits" not in names


def _onnx_quantisation(operators: set[str], layers: Iterable[Layer]) -> str | None:
    integers = ", ".join(sorted({layer.dtype for layer in layers if "int" in layer.dtype or "float8" in layer.dtype}))
    blocked = [operator for operator in ("MatMulNBits", "GatherBlockQuantized") if operator in operators]
    if blocked:
        return f"{integers or 'integer'} weights ({', '.join(blocked)})"
    if operators & {"DynamicQuantizeLinear", "DynamicQuantizeMatMul"}:
        return "dynamic int8 per tensor: answers depend on the other rows of the batch"
    if operators & {"QLinearConv", "QLinearMatMul", "QGemm"}:
        return "static int8 (QOperator)"
    if "QuantizeLinear" in operators:
        return "static int8 (QDQ)"
    return f"{integers or 'integer'} weights (QDQ)" if "DequantizeLinear" in operators else None


def _module(seen: Inspection, found: Found, factory: Factory | None, limits: Limits, name: str | None) -> Inspection:
    from fairguard.inputs.hf_models import open_folder
    from fairguard.inputs.trusted import open_trusted

    try:
        if found.kind is Kind.HF:
            return _of_module(seen, open_folder(found, limits=limits))
        return _of_module(seen, open_trusted(found, factory, name=name))
    except FairguardError as error:
        return replace(seen, needs=str(error))


def _of_module(seen: Inspection, module: nn.Module) -> Inspection:
    from fairguard.inputs.quantised import quantised_program
    from fairguard.inputs.torch_models import layers_of, parameters_of

    layers = layers_of(module, rank=True)
    kinds = [type(part) for part in module.modules() if _is_leaf(part)]
    return replace(
        seen,
        architecture=_parts(kind.__name__ for kind in kinds),
        quantisation=_quantisation(layers, {kind.__module__ for kind in kinds}) or quantised_program(module),
        parameters=parameters_of(module),
        layers=layers,
    )


def _is_leaf(part: nn.Module) -> bool:
    """Return whether ``part`` computes something itself; quantised layers keep their weights in a part of their own."""
    if type(part).__name__.endswith("PackedParams"):
        return False
    return "quantized" in type(part).__module__ or not any(True for _ in part.children())


def _weights(seen: Inspection, found: Found, factory: Factory | None, limits: Limits, name: str | None) -> Inspection:
    from fairguard.inputs.checkpoints import chosen_set, weight_sets
    from fairguard.inputs.state_dicts import read_held, state_of

    held = read_held(found)
    sets = weight_sets(held) if isinstance(held, Mapping) else {}
    if name is None and len(sets) > 1:
        name = chosen_set(held, sets)
        seen = replace(seen, holds=_sets(list(sets), name))
        if name is None:
            return replace(seen, needs=f"the name of one of its sets of weights: {found.path}::NAME")
    return _state(seen, state_of(found, held, limits=limits, name=name or None), factory)


def _sets(names: list[str], chosen: str | None) -> str:
    """Return the sets of weights that a checkpoint holds, the one that is judged first."""
    others = listed([name for name in names if name and name != chosen], most=6)
    return others if chosen is None else f"{chosen or 'weights'} (judged unless ::NAME says otherwise), {others}"


def _state(seen: Inspection, state: dict[str, Any], factory: Factory | None) -> Inspection:
    from fairguard.inputs.checkpoints import packed_in, tensors_in
    from fairguard.inputs.state_dicts import build, fitting, mismatches, name_of, names_of, with_weights
    from fairguard.inputs.torch_models import tensor_layer

    state = fitting(state, {})
    tensors = tensors_in(state) | packed_in(state)
    weights = {n: t for n, t in tensors.items() if t.dim() > 1 and (t.is_floating_point() or t.is_quantized)}
    layers = tuple(tensor_layer(name, tensor, rank=True) for name, tensor in weights.items())
    seen = replace(
        seen,
        needs="the function that builds the architecture: --model pkg.module:build",
        parameters=sum(tensor.numel() for name, tensor in tensors.items() if not name.endswith(STATISTICS)),
        layers=layers,
        quantisation=_quantisation(layers, set()),
    )
    if factory is None:
        return seen
    module = build(factory)
    differences = mismatches(module, fitting(state, names_of(module)))
    if differences:
        return replace(seen, needs=f"another architecture than {name_of(factory)}: {'; '.join(differences)}")
    with_weights(module, state, name=str(seen.path), factory=name_of(factory))
    return replace(_of_module(seen, module), needs=None)


def _quantisation(layers: Iterable[Layer], homes: set[str]) -> str | None:
    """Return how weights are quantised; ``homes``: the modules that the layers' classes come from."""
    kinds = {layer.dtype for layer in layers if "int" in layer.dtype or "float8" in layer.dtype}
    if not kinds:
        return None
    dynamic = any("quantized.dynamic" in home for home in homes)
    return f"{', '.join(sorted(kinds))} weights{', dynamic activations' if dynamic else ''}"


def _parts(names: Iterable[str]) -> str:
    """Return kinds of parts and how many there are of each: ``Linear x3, ReLU x2``."""
    counts = Counter(names)
    return listed([f"{name} x{count}" if count > 1 else name for name, count in counts.most_common()], most=8)
