"""Hostile and broken files, made by script: never a binary blob whose making nobody can read.

    python tests/hostile_files.py FOLDER     writes all of them, to look at

Payloads create the file named by the environment variable ``FAIRGUARD_CANARY``; as long as that file does not exist,
nothing that a file holds was run.
"""

from __future__ import annotations

import io
import json
import os
import pickle
import socket
import struct
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from model_files import MAKERS, NEED_TRUST, trained
from onnx import TensorProto, helper

TERA = 1 << 40


@dataclass(frozen=True)
class Hostile:
    """A file, and whether it must be refused: a flipped bit may also change nothing, or only the weights."""

    name: str
    path: Path
    refused: bool = True


class Payload:
    """Creates the canary file when unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch $FAIRGUARD_CANARY",)


def all_files(folder: Path, *, cuts: int = 100, seeds: int = 200) -> Iterator[Hostile]:
    """Yield every hostile file once it is written into ``folder``; an earlier one may be gone by then."""
    for make in (payloads, bombs, claims, pickles_that_eat, hidden_pickles, graphs, odd_places, names):
        yield from make(_fresh(folder / make.__name__))
    good = _fresh(folder / "good")
    for name, maker in MAKERS.items():
        maker(good / name)
        yield from truncated(good / name, _fresh(folder / "truncated"), cuts)
        yield from flipped(good / name, _fresh(folder / "flipped"), seeds)


def _fresh(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def truncated(good: Path, folder: Path, cuts: int) -> Iterator[Hostile]:
    """A file cut at every hundredth of its length. Half a CSV is a CSV too: what it lacks shows when rows are asked."""
    data = good.read_bytes()
    for cut in range(cuts):
        path = folder / good.name
        path.write_bytes(data[: len(data) * cut // cuts])
        yield Hostile(f"{good.name} cut at {100 * cut // cuts} %", path, refused=good.suffix != ".csv")


def flipped(good: Path, folder: Path, seeds: int) -> Iterator[Hostile]:
    """A file with one to eight bits flipped."""
    data = good.read_bytes()
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        changed = bytearray(data)
        for at in rng.integers(0, len(data), rng.integers(1, 9)):
            changed[at] ^= 1 << rng.integers(8)
        path = folder / good.name
        path.write_bytes(bytes(changed))
        yield Hostile(f"{good.name} flipped with seed {seed}", path, refused=good.name in NEED_TRUST)


# --- code in every place where formats hide a pickle -------------------------------------------------------------


def payloads(folder: Path) -> Iterator[Hostile]:
    for protocol in range(6):
        data = pickle.dumps(Payload(), protocol=protocol)
        yield _file(folder, f"payload_protocol_{protocol}.pkl", data)
        yield torch_zip(folder, f"payload_in_data_pkl_{protocol}.pt", data)
        yield _file(folder, f"payload_behind_torch_magic_{protocol}.pt", _legacy(data))
    for name, data in hidden_imports().items():
        yield torch_zip(folder, f"payload_{name}.pt", data)
    yield _saved(folder, "payload_in_checkpoint.pt", {"state_dict": trained().state_dict(), "args": Payload()})
    yield _saved(folder, "payload_in_checkpoint_legacy.pt", {"model": Payload()}, zipped=False)
    yield from _payloads_in_torch_programs(folder)
    yield from _payloads_in_arrays(folder)
    yield from _payloads_in_folders(folder)


def hidden_imports() -> dict[str, bytes]:
    """Pickles that call ``os.system`` while hiding the name from simple scanners."""
    run = b"X\x1c\x00\x00\x00touch $FAIRGUARD_CANARY     \x85R."
    return {
        "stack_global": b"\x80\x04\x8c\x05posix\x8c\x06system\x93" + run,
        "memo": b"\x80\x04\x8c\x05posix\x94\x8c\x06system\x94\x8c\x01x0h\x00h\x01\x93" + run,
        "inst": b"(X\x1c\x00\x00\x00touch $FAIRGUARD_CANARY     iposix\nsystem\n.",
        "dotted": b"\x80\x04\x8c\x08builtins\x8c\x10getattr.__self__\x93.",
        "allowed_then_build": b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\ncposix\nsystem\n" + run,
        "stop_in_string": b"\x80\x02X\x01\x00\x00\x00.0cposix\nsystem\n" + run,
        "extension": b"\x80\x02\x82\x01" + run,
        "torch_hub": b"\x80\x02ctorch.hub\nload\n" + run,
        "torch_load": b"\x80\x02ctorch.serialization\nload\n" + run,
        "numpy_ctypes": b"\x80\x02cnumpy.testing._private.utils\nrunstring\n" + run,
        "torch_dotted_storage": b"\x80\x02ctorch\nhub.load_Storage\n" + run,
    }


def _payloads_in_torch_programs(folder: Path) -> Iterator[Hostile]:
    data = pickle.dumps(Payload())
    for inner in ("constants.pkl", "data.pkl", "attributes.pkl", "mobile_debug_handles.pkl"):
        entries = {
            "code/__torch__.py": b"import os",
            "data.pkl": b"\x80\x02}.",
            "constants.pkl": b"\x80\x02).",
            inner: data,
        }
        yield archive(folder, f"script_{inner}.pt", {f"x/{name}": value for name, value in entries.items()})
    evaluated = json.dumps(
        {"graph_module": {"range_constraints": "__import__('os').system('touch $FAIRGUARD_CANARY')"}}
    )
    for inner in ("serialized_state_dict.pt", "serialized_constants.pt", "serialized_example_inputs.pt"):
        entries = {"serialized_exported_program.json": evaluated.encode(), "version": b"8.5", inner: data}
        yield archive(folder, f"program_{inner}.pt2", entries)
    config = {"config": {"w": {"path_name": "weight_0", "is_param": True, "use_pickle": True, "tensor_meta": None}}}
    entries = {
        "archive_format": b"pt2",
        "archive_version": b"0",
        "models/model.json": evaluated.encode(),
        "data/weights/model_weights_config.json": json.dumps(config).encode(),
        "data/weights/weight_0": data,
        "data/sample_inputs/model.pt": data,
    }
    yield archive(folder, "program_weights_config.pt2", {f"x/{name}": value for name, value in entries.items()})


def _payloads_in_arrays(folder: Path) -> Iterator[Hostile]:
    objects = np.array([Payload()] * 60, dtype=object)
    fine = np.zeros((60, 3))
    for name, arrays in {
        "labels": {"labels": objects},
        "scores": {"scores": objects},
        "ids": {"scores": fine, "ids": objects},
        "classes": {"scores": fine, "classes": objects[:3]},
        "models": {"scores": fine, "models": objects},
    }.items():
        np.savez(folder / f"objects_{name}.npz", **arrays)
        yield Hostile(f"objects_{name}.npz", folder / f"objects_{name}.npz")
    yield archive(folder, "pickle_called_npy.npz", {"scores.npy": pickle.dumps(Payload())})
    np.save(folder / "objects.npy", objects)
    yield Hostile("objects.npy", folder / "objects.npy")
    metadata = {"ARROW:extension:name": "arrow.py_extension_type", "ARROW:extension:metadata": pickle.dumps(Payload())}
    field = pa.field("prediction", pa.binary(), metadata=metadata)
    pq.write_table(pa.table([pa.array([b"x"] * 60)], schema=pa.schema([field])), folder / "extension.parquet")
    # Arrow leaves an unknown extension type alone: what remains is a column of text.
    yield Hostile("extension.parquet", folder / "extension.parquet", refused=False)


def _payloads_in_folders(folder: Path) -> Iterator[Hostile]:
    config = {"model_type": "bert", "architectures": ["BertForSequenceClassification"]}
    remote = {**config, "auto_map": {"AutoModelForSequenceClassification": "evil.Evil"}}
    code = b"import os; os.system('touch $FAIRGUARD_CANARY')"
    for name, held, extra in (
        ("pickled", config, {"pytorch_model.bin": pickle.dumps(Payload())}),
        ("remote_code", remote, {"evil.py": code, "model.safetensors": _safetensors({}, b"")}),
        ("unknown_type", {"model_type": "../evil"}, {"evil.py": code, "model.safetensors": _safetensors({}, b"")}),
        ("huge_layers", {**config, "num_hidden_layers": 10**9}, {"model.safetensors": _safetensors({}, b"")}),
        ("huge_width", {**config, "vocab_size": 2**30}, {"model.safetensors": _safetensors({}, b"")}),
        ("no_json", None, {}),
    ):
        inside = _fresh(folder / f"hf_{name}")
        (inside / "config.json").write_text("{" if held is None else json.dumps(held))
        for file, data in extra.items():
            (inside / file).write_bytes(data)
        yield Hostile(f"hf_{name}", inside)


# --- small files that unpack or claim to much ---------------------------------------------------------------------


def bombs(folder: Path) -> Iterator[Hostile]:
    zeros = bytes(200 << 20)
    yield archive(folder, "bomb_tensor.pt", {"x/data.pkl": b"\x80\x02}.", "x/data/0": zeros}, packed=True)
    yield archive(folder, "bomb_pickle.pt", {"x/data.pkl": b"\x80\x02" + zeros}, packed=True)
    yield archive(folder, "bomb_version.pt", {"x/data.pkl": b"\x80\x02}.", "x/version": zeros}, packed=True)
    header = npy_header((len(zeros),), "|u1")
    yield archive(folder, "bomb.npz", {"scores.npy": header + zeros}, packed=True)
    yield archive(
        folder,
        "bomb_ids.npz",
        {"scores.npy": npy_header((1, 1), "<f4") + bytes(4), "ids.npy": header + zeros},
        packed=True,
    )
    yield archive(folder, "bomb_entries.npz", {f"{i}.npy": b"" for i in range(150_000)})
    for name, scheme in (("bzip2", zipfile.ZIP_BZIP2), ("lzma", zipfile.ZIP_LZMA)):
        yield archive(folder, f"bomb_{name}.npz", {"scores.npy": header + zeros}, scheme=scheme)
    yield _overlapping(folder)
    table = pa.table({"prediction": pa.array(np.zeros(60_000_000, dtype=np.int8))})
    pq.write_table(table, folder / "bomb.parquet", compression="zstd")
    yield Hostile("bomb.parquet", folder / "bomb.parquet")
    yield _file(
        folder, "bomb_columns.csv", b",".join(b"c%d" % i for i in range(300_000)) + b"\n" + b"0," * 299_999 + b"0\n"
    )
    yield _file(folder, "bomb_line.csv", b"prediction\n" + b"7" * (30 << 20))


def _overlapping(folder: Path) -> Hostile:
    """A directory whose many entries share one small compressed block."""
    path = folder / "bomb_overlap.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("scores.npy", npy_header((8 << 20,), "|u1") + bytes(8 << 20))
        first = file.infolist()[0]
        for i in range(500):
            again = zipfile.ZipInfo(f"ids{i}.npy")
            for name in ("CRC", "compress_size", "file_size", "header_offset", "compress_type", "flag_bits"):
                setattr(again, name, getattr(first, name))
            file.filelist.append(again)
            file.NameToInfo[again.filename] = again
    return Hostile(path.name, path)


def claims(folder: Path) -> Iterator[Hostile]:
    """Headers that promise what the file does not have."""
    for name, shape, stride, held in (
        ("stride_0", (TERA,), (0,), 1),
        ("beyond", (TERA,), (1,), 1),
        ("storage", (4,), (1,), TERA),
        ("wide", (1 << 20, 1 << 20), (0, 0), 1),
        ("negative", (-5,), (1,), 1),
    ):
        yield torch_zip(folder, f"claims_{name}.pt", tensor_pickle(shape, stride, held), storage=bytes(4))
        yield _file(folder, f"claims_{name}_legacy.pt", _legacy(tensor_pickle(shape, stride, held, legacy=True)))
    meta = {"dtype": "F32", "shape": [TERA], "data_offsets": [0, 4 * TERA]}
    yield _file(folder, "claims.safetensors", _safetensors({"w": meta}, bytes(64)))
    yield _file(
        folder,
        "claims_overlap.safetensors",
        _safetensors(
            {f"w{i}": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]} for i in range(1000)}, bytes(16)
        ),
    )
    yield _file(folder, "claims_header.safetensors", struct.pack("<Q", 2**62) + b'{"w":1}' + bytes(64))
    yield _file(folder, "claims_big_endian.safetensors", struct.pack(">Q", 2) + b"{}" + bytes(64))
    yield _file(
        folder, "claims_nesting.safetensors", _with_length(b'{"w":' + b"[" * 3_000_000 + b"]" * 3_000_000 + b"}")
    )
    yield archive(folder, "claims.npz", {"scores.npy": npy_header((TERA,), "<f8") + bytes(64)})
    yield archive(folder, "claims_negative.npz", {"scores.npy": npy_header((-1, -8), "<f8") + bytes(64)})
    yield archive(folder, "claims_itemsize.npz", {"labels.npy": npy_header((2,), f"<U{2**28}") + bytes(64)})
    yield archive(
        folder, "claims_header.npz", {"scores.npy": b"\x93NUMPY\x02\x00" + struct.pack("<I", 2**32 - 1) + b"{"}
    )
    yield archive(folder, "claims_nested.npz", {"scores.npy": npy_raw(b"(" * 9000)})
    yield archive(folder, "claims_structured.npz", {"scores.npy": npy_header((2,), [("a", "<f8")]) + bytes(16)})
    yield archive(folder, "claims_void.npz", {"labels.npy": npy_header((2,), "|V8") + bytes(16)})
    good = io.BytesIO()
    torch.save(trained().state_dict(), good)
    data = good.getvalue()
    at = data.rfind(b"PK\5\6")
    yield _file(folder, "claims_directory.pt", data[: at + 12] + struct.pack("<I", 2**31) + data[at + 16 :])
    yield _file(folder, "claims_endian.pt", data.replace(b"little", b"evil!!"))


def pickles_that_eat(folder: Path) -> Iterator[Hostile]:
    """Pickles of allowed opcodes, and of functions that torch allows, that take memory or time."""
    number = b"\x8a\x05" + (2 * 10**10).to_bytes(5, "little")
    doubling = b"\x80\x02c_codecs\nencode\n" + b"X\x01\x00\x00\x00a" + b"X\x03\x00\x00\x00hex\x86R"
    many = b"".join(
        b"\x8a\x0b" + (i * (2**61 - 1)).to_bytes(11, "little") + b"N" for i in range(2**20, 2**20 + 400_000)
    )
    for name, data in {
        "bytearray": b"\x80\x02cbuiltins\nbytearray\n" + number + b"\x85R.",
        "tensor": b"\x80\x02ctorch\nTensor\n" + number + b"\x85R.",
        "float_tensor": b"\x80\x02ctorch\nFloatTensor\n" + number + b"\x85R.",
        "sparse": b"\x80\x02ctorch._utils\n_rebuild_sparse_tensor\n" + number + b"\x85R.",
        "meta": b"\x80\x02ctorch._utils\n_rebuild_meta_tensor_no_storage\n" + number + b"\x85R.",
        "hex": doubling * 30 + b".",
        "colliding_keys": b"\x80\x02}(" + many + b"u.",
        "nested_lists": b"\x80\x02" + b"]" * 1_000_000 + b"a" * 999_999 + b".",
        "nested_tuples": b"\x80\x02)" + b"\x85" * 1_000_000 + b".",
        "marks": b"\x80\x02" + b"(" * 4_000_000 + b".",
        "laughs": b"\x80\x02]q\x00" + b"".join(b"](" + b"h\x00" * 10 + b"eq\x00" for _ in range(1000)) + b".",
        "long": b"\x80\x02}X\x01\x00\x00\x00a\x8b" + struct.pack("<i", 4_000_000) + b"\x7f" * 4_000_000 + b"s.",
        "long_claimed": b"\x80\x02\x8b" + struct.pack("<i", 2**31 - 1) + b"\x7f" * 10 + b".",
        "text_claimed": b"\x80\x04\x8d" + struct.pack("<Q", 2**62) + b"a.",
        "no_stop": b"\x80\x02}",
        "cyclic": b"\x80\x02}q\x00X\x05\x00\x00\x00modelh\x00s.",
        "only_numbers": b"\x80\x02}X\x01\x00\x00\x00aK\x01s.",
        "a_list": b"\x80\x02].",
    }.items():
        yield torch_zip(folder, f"eats_{name}.pt", data)
        yield _file(folder, f"eats_{name}_legacy.pt", _legacy(data))


def hidden_pickles(folder: Path) -> Iterator[Hostile]:
    """Archives in which torch finds another pickle than the one that Python's zipfile finds first."""
    eats = b"\x80\x02cbuiltins\nbytearray\n\x8a\x05" + (3 * 10**8).to_bytes(5, "little") + b"\x85R."
    fine, rest = b"\x80\x02}.", {"x/byteorder": b"little", "x/version": b"3\n"}
    for name, pickles in {
        "deeper": {"x/sub/data.pkl": fine, "x/data.pkl": eats},
        "two_roots": {"y/data.pkl": fine, "x/data.pkl": eats},
        "capitals_first": {"x/DATA.PKL": eats, "x/data.pkl": fine},
        "capitals_last": {"x/data.pkl": fine, "x/DATA.PKL": eats},
        "capitals_alone": {"x/sub/data.pkl": fine, "x/DATA.PKL": eats},
    }.items():
        yield archive(folder, f"hidden_{name}.pt", {**pickles, **rest})
    yield _file(
        folder, "hidden_directory.pt", _two_directories({"x/data.pkl": fine, **rest}, {"x/data.pkl": eats, **rest})
    )
    yield _file(folder, "hidden_before.pt", b"PK\3\4" + bytes(100) + _zip({"x/data.pkl": fine, **rest}))
    yield _file(folder, "hidden_behind.pt", _zip({"x/data.pkl": fine, **rest}) + bytes(100))


def _two_directories(by_python: dict[str, bytes], by_torch: dict[str, bytes]) -> bytes:
    """Two archives in one file: its end points at the directory of one, and stands behind the directory of the other.

    Python shifts the places of the entries by what it takes for data before the archive; they are moved back by that.
    """
    seen, hidden = _zip(by_python), _zip({**by_torch, "x/padding": bytes(2000)})
    at, end = seen.rfind(b"PK\5\6"), hidden.rfind(b"PK\5\6")
    (seen_at,), (hidden_at,) = struct.unpack_from("<I", seen, at + 16), struct.unpack_from("<I", hidden, end + 16)
    directory, place = bytearray(seen[seen_at:at]), 0
    while (place := directory.find(b"PK\1\2", place)) >= 0:
        (start,) = struct.unpack_from("<I", directory, place + 42)
        struct.pack_into("<I", directory, place + 42, start - seen_at + hidden_at)
        place += 1
    last = bytearray(seen[at:])
    struct.pack_into("<I", last, 16, hidden_at)
    return hidden[:end] + seen[:seen_at] + bytes(directory) + bytes(last)


def graphs(folder: Path) -> Iterator[Hostile]:
    """ONNX graphs: data outside the folder, weights that are not there, operators that take memory or never end."""
    secret = folder.parent / "secret.bin"
    secret.write_bytes(bytes(4096))
    link = folder / "link.bin"
    link.unlink(missing_ok=True)
    link.symlink_to(secret)
    (_fresh(folder / "inside") / "data.bin").write_bytes(bytes(4096))
    for name, location in {
        "parent": "../secret.bin",
        "deep": "inside/../../secret.bin",
        "absolute": str(secret),
        "link": "link.bin",
        "device": "/dev/zero",
        "process": "/proc/self/environ",
        "url": "file:///etc/passwd",
        "windows": "..\\secret.bin",
        "folder": "inside",
        "missing": "nowhere.bin",
        "empty": "",
        "nul": "a\0b",
        "escape": "\x1b[31m\n" + "x" * 5000,
    }.items():
        yield _onnx(folder, f"external_{name}.onnx", external=[("location", location)])
    for name, extra in {
        "offset": [("offset", "4090"), ("length", "64")],
        "negative": [("offset", "-64"), ("length", "64")],
        "no_number": [("offset", "many")],
        "long": [("length", str(2**62))],
    }.items():
        yield _onnx(folder, f"external_{name}.onnx", external=[("location", "inside/data.bin"), *extra])
    yield _onnx(folder, "claims_terabytes.onnx", dims=(TERA,))
    yield _onnx(folder, "claims_overflow.onnx", dims=(2**62, 4))
    yield _onnx(folder, "claims_negative.onnx", dims=(-3, -4))
    yield from _greedy_graphs(folder)
    yield from _no_texts(folder)
    yield _file(folder, "no_graph.onnx", b"\x08\x08\x3a\x00")
    yield _file(folder, "endless_field.onnx", b"\x08\x08\x12" + b"\xff" * 9 + b"\x01")
    yield _file(folder, "nested_fields.onnx", _nested_fields(2000))
    yield _file(folder, "many_fields.onnx", b"\x08\x01" * (20 << 20))


def _no_texts(folder: Path) -> Iterator[Hostile]:
    """Graphs that are right but for one name, which is no UTF-8."""
    names = {"features": "takes", "rows": "dimension", "kernel": "weight", "answer": "gives", "multiply": "node"}
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["features", "kernel"], ["answer"], name="multiply")],
        "g",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["rows", 12])],
        [helper.make_tensor_value_info("answer", TensorProto.FLOAT, ["rows", 3])],
        [helper.make_tensor("kernel", TensorProto.FLOAT, (12, 3), bytes(144), raw=True)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    data = model.SerializeToString()
    for name, what in names.items():
        yield _file(folder, f"no_text_{what}.onnx", data.replace(name.encode(), b"\xc1" * len(name)))


def _greedy_graphs(folder: Path) -> Iterator[Hostile]:
    sizes = helper.make_tensor("sizes", TensorProto.INT64, [2], [300_000, 20_000])
    for name, nodes in {
        "constant_of_shape": [helper.make_node("ConstantOfShape", ["sizes"], ["big"])],
        "expand": [helper.make_node("Expand", ["w2", "sizes"], ["big"])],
        "random": [helper.make_node("RandomNormal", [], ["big"], shape=[300_000, 20_000])],
        "tile": [helper.make_node("Tile", ["w2", "sizes"], ["big"])],
        "range": [helper.make_node("Range", ["r0", "r1", "r2"], ["big"])],
    }.items():
        reduce = helper.make_node("ReduceSum", ["big"], ["s"], keepdims=0)
        add = helper.make_node("Add", ["x", "s"], ["y"])
        extra = [
            sizes,
            helper.make_tensor("w2", TensorProto.FLOAT, [1, 1], [1.0]),
            *(helper.make_tensor(n, TensorProto.FLOAT, [], [v]) for n, v in (("r0", 0.0), ("r1", 6e9), ("r2", 1.0))),
        ]
        yield _onnx(folder, f"greedy_{name}.onnx", nodes=[*nodes, reduce, add], initializers=extra)
    body = helper.make_graph(
        [helper.make_node("Identity", ["c"], ["c_out"]), helper.make_node("Add", ["v", "v"], ["v_out"])],
        "body",
        [helper.make_tensor_value_info(n, t, s) for n, t, s in (("i", 7, []), ("c", 9, []), ("v", 1, None))],
        [helper.make_tensor_value_info(n, t, s) for n, t, s in (("c_out", 9, []), ("v_out", 1, None))],
    )
    forever = [
        helper.make_tensor("n", TensorProto.INT64, [], [2**62]),
        helper.make_tensor("yes", TensorProto.BOOL, [], [True]),
    ]
    loop = helper.make_node("Loop", ["n", "yes", "x"], ["y"], body=body)
    yield _onnx(folder, "greedy_loop.onnx", nodes=[loop], initializers=forever)
    unknown = helper.make_node("Evil", ["x"], ["y"], domain="evil.com")
    yield _onnx(folder, "unknown_operator.onnx", nodes=[unknown], initializers=[])
    context = helper.make_node("EPContext", ["x"], ["y"], domain="com.microsoft", ep_cache_context="/etc/passwd")
    yield _onnx(folder, "context.onnx", nodes=[context], initializers=[])
    many = [helper.make_node("Identity", ["x" if i == 0 else f"t{i}"], [f"t{i + 1}"]) for i in range(150_000)]
    yield _onnx(
        folder, "many_nodes.onnx", nodes=[*many, helper.make_node("Identity", ["t150000"], ["y"])], initializers=[]
    )


def odd_places(folder: Path) -> Iterator[Hostile]:
    """What is no file, or no file of any kind."""
    _fresh(folder / "folder.pt")
    for name, target in (("to_device", "/dev/zero"), ("dangling", "nowhere"), ("loop", str(folder / "loop"))):
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(target)
    for name in ("folder.pt", "to_device", "dangling", "loop"):
        yield Hostile(name, folder / name)
    (folder / "pipe").unlink(missing_ok=True)
    os.mkfifo(folder / "pipe")
    yield Hostile("pipe", folder / "pipe")
    here = os.getcwd()
    os.chdir(folder)  # a socket's path may be no longer than 107 characters
    try:
        Path("socket").unlink(missing_ok=True)
        socket.socket(socket.AF_UNIX).bind("socket")
    finally:
        os.chdir(here)
    yield Hostile("socket", folder / "socket")
    yield Hostile("device", Path("/dev/zero"))
    yield Hostile("nul", folder / "a\0b")
    yield Hostile("long_name", folder / ("x" * 5000))
    for name, data in {
        "empty": b"",
        "one_byte": b"\x80",
        "zeros": bytes(10_000),
        "noise": np.random.default_rng(0).bytes(10_000),
        "empty_zip": b"PK\5\6" + bytes(18),
        "zip_of_text.pt": _zip({"readme.txt": b"hello"}),
        "zip_up.npz": _zip({"../../evil.npy": b"x"}),
        "zip_up.pt": _zip({"x/data.pkl": b"\x80\x02}.", "x/../../evil": b"x"}),
        "zip_absolute.pt": _zip({"x/data.pkl": b"\x80\x02}.", "/etc/evil": b"x"}),
        "zip_backslash.pt": _zip({"x/data.pkl": b"\x80\x02}.", "..\\evil": b"x"}),
        "zip_twice.pt": _twice(),
        "hdf5.pt": b"\x89HDF\r\n\x1a\n" + bytes(100),
        "tflite.pt": b"\x1c\0\0\0TFL3" + bytes(100),
        "ort.onnx": b"\x1c\0\0\0ORTM" + bytes(100),
        "gguf.pt": b"GGUF" + bytes(100),
        "gzip.csv": b"\x1f\x8b\x08" + bytes(100),
        "text.pt": b"this is no model",
        "html.pt": b"<!DOCTYPE html>\n<html><body>404</body></html>\n",
        "lfs.pt": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 12\n",
        "utf16.csv": "prediction\n1\n".encode("utf-16"),
        "nul.csv": b"prediction\n1\n\0\n",
        "ragged.csv": b"prediction,id\n1\n1,2,3\n",
        "words.csv": b"id,score\n" + b"".join(b"%d,much\n" % i for i in range(60)),
        "magic_only.parquet": b"PAR1",
        "magic_twice.parquet": b"PAR1" + struct.pack("<I", 2**31 - 1) + b"PAR1",
    }.items():
        yield _file(folder, name, data)


def names(folder: Path) -> Iterator[Hostile]:
    """Names that would break a line, colour a terminal or fill it."""
    for name, key in {
        "escape": "\x1b[31mred\x1b[0m",
        "lines": "a\nb\r\nc\u2028d\x85e",
        "right_to_left": "\u202egpj.exe",
        "long": "x" * 1_000_000,
        "unicode": "层.权重 🙂",
        "surrogate": "a\udc80",
        "empty": "",
    }.items():
        yield _saved(folder, f"key_{name}.pt", {key: torch.zeros(3, 4)})
        yield _onnx(folder, f"key_{name}.onnx", dims=(TERA,), name=key.encode("utf-8", "replace").decode())
        yield _file(folder, f"key_{name}.csv", f"{key},b\n1,2\n".encode("utf-8", "replace"))
    for name in ("层 🙂.pt", "a\nb.pt", "\x1b[31mred.pt", "x" * 250 + ".pt"):
        yield _file(folder, name, b"\x80\x02}.")


# --- building blocks ----------------------------------------------------------------------------------------------


def _file(folder: Path, name: str, data: bytes) -> Hostile:
    (folder / name).write_bytes(data)
    return Hostile(name, folder / name)


def _saved(folder: Path, name: str, held: Any, *, zipped: bool = True) -> Hostile:
    torch.save(held, folder / name, _use_new_zipfile_serialization=zipped)
    return Hostile(name, folder / name)


def _zip(entries: dict[str, bytes], *, scheme: int = zipfile.ZIP_STORED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", scheme) as file:
        for name, data in entries.items():
            file.writestr(name, data)
    return stream.getvalue()


def _twice() -> bytes:
    import warnings

    stream = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(stream, "w") as file:
        warnings.simplefilter("ignore")
        file.writestr("x/data.pkl", b"\x80\x02}.")
        file.writestr("x/data.pkl", pickle.dumps(Payload(), protocol=2))
    return stream.getvalue()


def archive(
    folder: Path, name: str, entries: dict[str, bytes], *, packed: bool = False, scheme: int = zipfile.ZIP_STORED
) -> Hostile:
    return _file(folder, name, _zip(entries, scheme=zipfile.ZIP_DEFLATED if packed else scheme))


def torch_zip(folder: Path, name: str, data: bytes, *, storage: bytes = b"") -> Hostile:
    """A file as torch.save writes it, around any pickle."""
    entries = {"x/data.pkl": data, "x/byteorder": b"little", "x/data/0": storage, "x/version": b"3\n"}
    return archive(folder, name, entries)


def _legacy(data: bytes) -> bytes:
    """A file as torch wrote it before 1.6, around any pickle."""
    magic, info = 0x1950A86A20F9469CFC6C, {"protocol_version": 1001, "little_endian": True, "type_sizes": {}}
    before = b"".join(pickle.dumps(part, protocol=2) for part in (magic, 1001, info))
    return before + data + pickle.dumps(["0"], protocol=2) + struct.pack("<q", 1) + bytes(4)


def tensor_pickle(shape: tuple[int, ...], stride: tuple[int, ...], held: int, *, legacy: bool = False) -> bytes:
    """The pickle of ``{"w": tensor}`` with any shape, stride and claimed storage."""

    def number(value: int) -> bytes:
        return b"\x8a\x08" + value.to_bytes(8, "little", signed=True)

    def numbers(values: tuple[int, ...]) -> bytes:
        return b"(" + b"".join(map(number, values)) + b"t"

    key = b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpu" + number(held)
    key += (b"N" if legacy else b"") + b"tQ"
    tensor = b"ctorch._utils\n_rebuild_tensor_v2\n(" + key + number(0) + numbers(shape) + numbers(stride)
    return b"\x80\x02}X\x01\x00\x00\x00w" + tensor + b"\x89ccollections\nOrderedDict\n)RtRs."


def _safetensors(header: dict[str, Any], data: bytes) -> bytes:
    return _with_length(json.dumps(header).encode()) + data


def _with_length(header: bytes) -> bytes:
    return struct.pack("<Q", len(header)) + header


def npy_raw(header: bytes) -> bytes:
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header


def npy_header(shape: tuple[int, ...], descr: Any) -> bytes:
    return npy_raw(repr({"descr": descr, "fortran_order": False, "shape": shape}).encode() + b"\n")


def _onnx(
    folder: Path,
    file: str,
    *,
    dims: tuple[int, ...] = (12, 3),
    name: str = "w",
    external: list[tuple[str, str]] | None = None,
    nodes: list[Any] | None = None,
    initializers: list[Any] | None = None,
) -> Hostile:
    """A graph ``y = x @ w``, or of other nodes."""
    weight = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=dims)
    if dims == (12, 3) and external is None:
        weight.raw_data = bytes(144)
    if external is not None:
        weight.data_location = TensorProto.EXTERNAL
        for key, value in external:
            weight.external_data.add(key=key, value=value)
    graph = helper.make_graph(
        nodes or [helper.make_node("MatMul", ["x", name], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 12])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [weight, *(initializers or [])],
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    )
    model.ir_version = 8
    return _file(folder, file, model.SerializeToString())


def _nested_fields(depth: int) -> bytes:
    """Graphs in attributes in nodes in graphs, deeper than any parser follows."""
    inner = b""
    for _ in range(depth):
        attribute = b"\x32" + onnx_length(inner) + inner  # AttributeProto.g
        node = b"\x2a" + onnx_length(attribute) + attribute  # NodeProto.attribute
        inner = b"\x0a" + onnx_length(node) + node  # GraphProto.node
    return b"\x08\x08\x3a" + onnx_length(inner) + inner


def onnx_length(data: bytes) -> bytes:
    """The length of a protobuf field as a varint."""
    length, out = len(data), bytearray()
    while length > 0x7F:
        out.append(length & 0x7F | 0x80)
        length >>= 7
    return bytes([*out, length])


if __name__ == "__main__":
    for hostile in all_files(Path(sys.argv[1])):
        print(hostile.name)
