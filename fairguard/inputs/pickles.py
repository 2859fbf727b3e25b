"""What a pickle would import, read from its opcodes. Executes nothing: no unpickler ever sees the bytes here."""

from __future__ import annotations

import io
import pickletools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

WEIGHTS_ONLY = frozenset(
    {
        "builtins.set",
        "collections.Counter",
        "collections.OrderedDict",
        "torch.Size",
        "torch.device",
        "torch.nn.parameter.Parameter",
        "torch.serialization._get_layout",
        "torch.storage.TypedStorage",
        "torch.storage.UntypedStorage",
        *(
            f"torch._utils._rebuild_{what}"
            for what in ("parameter", "parameter_with_state", "qtensor", "tensor", "tensor_v2", "tensor_v3")
        ),
        *(
            f"torch.{scheme}"
            for scheme in (
                "per_tensor_affine",
                "per_tensor_symmetric",
                "per_channel_affine",
                "per_channel_symmetric",
                "per_channel_affine_float_qparams",
            )
        ),
    }
)
"""What a pickle of tensors needs, and of the optimisers and schedulers that checkpoints keep beside them (``Counter``,
``set``). A part of torch's own allow-list: the rest of that (``bytearray``, ``codecs.encode``, sparse and meta tensors,
tensor constructors) builds no weights but can ask for any amount of memory."""

TORCHAO = "torchao."
SUBCLASSES = frozenset({"torch._tensor._rebuild_from_type_v2", "torch._utils._rebuild_wrapper_subclass"})
"""What else a pickle of torchao's tensors needs."""

DTYPES = frozenset(
    {
        "bfloat16",
        "bool",
        "double",
        "float",
        "half",
        *(f"complex{n}" for n in (32, 64, 128)),
        *(f"float{n}" for n in (16, 32, 64)),
        *(f"float8_{kind}" for kind in ("e4m3fn", "e4m3fnuz", "e5m2", "e5m2fnuz")),
        *(f"int{n}" for n in (*range(1, 9), 16, 32, 64)),
        *(f"uint{n}" for n in (*range(1, 9), 16, 32, 64)),
        *("qint8", "quint8", "qint32"),
    }
)
"""torch's types of numbers."""

LONGEST_INT = 8
"""Bytes of the longest integer in a pickle of weights; long ones serve only to make dictionary keys collide."""


class BrokenPickleError(ValueError):
    """The bytes are no complete pickle."""


class LongPickleError(BrokenPickleError):
    """It takes more steps than allowed."""


@dataclass(frozen=True)
class Listing:
    """What stands in one pickle.

    Attributes:
        imports: the dotted names it would import, in order, each once; ``?`` where a name is computed.
        long_ints: whether it has integers of more than eight bytes.
        number: the first integer, by which torch's older format is known.
        length: bytes up to and with its STOP.
    """

    imports: tuple[str, ...]
    long_ints: bool
    number: int | None
    length: int

    @property
    def refused(self) -> tuple[str, ...]:
        """Return the imports that weights-only loading does not allow."""
        return tuple(name for name in self.imports if not allowed(name, quantised=self.quantised))

    @property
    def quantised(self) -> bool:
        """Return whether it holds torchao's quantised tensors; torchao tells torch which of its classes are safe."""
        return any(name.startswith(TORCHAO) for name in self.imports)


def allowed(name: str, *, quantised: bool = False) -> bool:
    """Return whether a pickle of tensors may import ``name``; ``quantised`` tensors are those of torchao."""
    module, _, attribute = name.rpartition(".")
    if name in WEIGHTS_ONLY or (quantised and (name in SUBCLASSES or name.startswith(TORCHAO))):
        return True
    return module == "torch" and (attribute.endswith("Storage") or attribute in DTYPES) and attribute.isidentifier()


def list_pickle(data: bytes, *, start: int = 0, most: int = 500_000) -> Listing:
    """Return what the pickle at ``start`` of ``data`` would import.

    Raises:
        BrokenPickleError: it ends early or has an unknown opcode.
        LongPickleError: it has more than ``most`` opcodes.
    """
    stream = io.BytesIO(data)
    stream.seek(start)
    imports: dict[str, None] = {}
    first: int | None = None
    long_ints = False
    for step, (name, argument, found) in enumerate(_walk(stream)):
        if step >= most:
            raise LongPickleError(f"more than {most} opcodes")
        if found is not None:
            imports[found] = None
        if type(argument) is int and name not in _NO_NUMBER:
            first = argument if first is None else first
            long_ints = long_ints or argument.bit_length() > 8 * LONGEST_INT
    return Listing(tuple(imports), long_ints, first, stream.tell() - start)


_NO_NUMBER = frozenset({"PUT", "BINPUT", "LONG_BINPUT", "GET", "BINGET", "LONG_BINGET", "PROTO", "FRAME"})


def _walk(stream: io.BytesIO) -> Iterator[tuple[str, Any, str | None]]:
    """Yield each opcode's name, its argument and the import it makes, if any."""
    recent: list[str] = []  # the last strings pushed, which STACK_GLOBAL takes its names from
    memo: dict[int, str] = {}
    last: str | None = None
    try:
        for opcode, argument, _ in pickletools.genops(stream):
            found = None
            if opcode.name in ("GLOBAL", "INST"):
                found = str(argument).replace(" ", ".", 1).replace("__builtin__.", "builtins.", 1)
            elif opcode.name == "STACK_GLOBAL":
                found = ".".join(recent[-2:]) if len(recent) >= 2 else "?"
            elif opcode.name.startswith("EXT"):
                found = "?"
            last = _remember(opcode.name, argument, last, recent, memo)
            yield opcode.name, argument, found
    except (ValueError, IndexError, UnicodeError, OverflowError, MemoryError) as error:
        raise BrokenPickleError(str(error)) from None


def _remember(name: str, argument: Any, last: str | None, recent: list[str], memo: dict[int, str]) -> str | None:
    """Follow strings through the memo, and return the string on top of the stack where that is known."""
    if name == "MEMOIZE":
        memo[len(memo)] = last or "?"
        return last
    if name in ("PUT", "BINPUT", "LONG_BINPUT"):
        memo[int(argument)] = last or "?"
        return last
    if name in ("GET", "BINGET", "LONG_BINGET"):
        recent.append(memo.get(int(argument), "?"))
    elif (isinstance(argument, str) and "UNICODE" in name) or "STRING" in name:
        recent.append(str(argument))
    else:
        return None
    del recent[:-2]
    return recent[-1]
