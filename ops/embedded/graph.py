"""Writes a model as onnxruntime reads it: an ONNX graph, step by step, as bytes.

The messages are those of ONNX (`onnx.proto3` of its specification, IR version 8), as far as a model of dense layers and
attention has need of them; protobuf, which onnxruntime brings, writes them.  The package `onnx` would do the same for
nine megabytes more.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

IR_VERSION = 8
OPERATORS = {"": 17, "com.microsoft": 1}
"""Operator sets: ONNX's own, and the fused ones that onnxruntime adds (`ContribOperators.md` of its documentation)."""

# (name, number, type) of each field.  A star: it may be repeated.  A type that is no scalar is a message of this table.
MESSAGES = {
    "Model": [("ir_version", 1, "int64"), ("graph", 7, "Graph"), ("opset_import*", 8, "Operators")],
    "Operators": [("domain", 1, "string"), ("version", 2, "int64")],
    "Graph": [
        ("node*", 1, "Node"),
        ("name", 2, "string"),
        ("initializer*", 5, "Tensor"),
        ("input*", 11, "Value"),
        ("output*", 12, "Value"),
    ],
    "Node": [
        ("input*", 1, "string"),
        ("output*", 2, "string"),
        ("op_type", 4, "string"),
        ("attribute*", 5, "Attribute"),
        ("domain", 7, "string"),
    ],
    "Attribute": [("name", 1, "string"), ("f", 2, "float"), ("i", 3, "int64"), ("type", 20, "int32")],
    "Tensor": [("dims*", 1, "int64"), ("data_type", 2, "int32"), ("name", 8, "string"), ("raw_data", 9, "bytes")],
    "Value": [("name", 1, "string"), ("type", 2, "Type")],
    "Type": [("tensor_type", 1, "TensorType")],
    "TensorType": [("elem_type", 1, "int32"), ("shape", 2, "Shape")],
    "Shape": [("dim*", 1, "Dimension")],
    "Dimension": [("dim_value", 1, "int64"), ("dim_param", 2, "string")],
}
FLOAT, INT = 1, 2  # AttributeProto.AttributeType
ROWS = 1  # the axis
LAST = 2**62
TENSOR_TYPES = {"float32": 1, "int8": 3, "int64": 7}  # TensorProto.DataType


class Graph:
    """A graph with one input and one output: rows of ``width`` floats, (1, rows, width)."""

    def __init__(self, width: int) -> None:
        self._graph = _message("Graph", name="model")
        self._width = width
        self._made = 0

    def rows(self) -> str:
        """Return the name of the input."""
        self._graph.input.append(self._value("rows"))
        return "rows"

    def weights(self, values: npt.NDArray[Any]) -> str:
        """Store a tensor; return its name."""
        name = self._name()
        self._graph.initializer.append(
            _message(
                "Tensor",
                name=name,
                dims=values.shape,
                data_type=TENSOR_TYPES[values.dtype.name],
                raw_data=np.ascontiguousarray(values).tobytes(),
            )
        )
        return name

    def step(self, operator: str, *inputs: str, domain: str = "com.microsoft", **settings: float) -> str:
        """Add a step; return the name of what it makes.  Settings are typed: 1 and 1.0 are not the same."""
        return self._step(operator, inputs, 1, domain, settings)[0]

    def thirds(self, rows: str) -> list[str]:
        """Split each row into three."""
        return self._step("Split", (rows,), 3, "", {"axis": -1})

    def between(self, rows: str, start: int, end: int) -> str:
        """Return the rows from ``start`` to before ``end``, or to the last."""
        edges = [self.weights(np.array([edge], dtype=np.int64)) for edge in (start, end, ROWS)]
        return self.step("Slice", rows, *edges, domain="")

    def together(self, *rows: str) -> str:
        """Return rows, and below them others."""
        return self.step("Concat", *rows, axis=ROWS, domain="")

    def _step(
        self, operator: str, inputs: Sequence[str], outputs: int, domain: str, settings: dict[str, float]
    ) -> list[str]:
        made = [self._name() for _ in range(outputs)]
        node = _message("Node", op_type=operator, domain=domain, input=inputs, output=made)
        for name, value in settings.items():
            given = {"f": value, "type": FLOAT} if isinstance(value, float) else {"i": value, "type": INT}
            node.attribute.append(_message("Attribute", name=name, **given))
        self._graph.node.append(node)
        return made

    def model(self, output: str) -> bytes:
        """Return the whole model, which ends in ``output``."""
        self._graph.output.append(self._value(output))
        operators = [_message("Operators", domain=domain, version=version) for domain, version in OPERATORS.items()]
        model = _message("Model", ir_version=IR_VERSION, graph=self._graph, opset_import=operators)
        return bytes(model.SerializeToString())

    def _name(self) -> str:
        self._made += 1
        return f"t{self._made}"

    def _value(self, name: str) -> Any:
        sizes = [
            _message("Dimension", dim_value=1),
            _message("Dimension", dim_param="n"),
            _message("Dimension", dim_value=self._width),
        ]
        shape = _message("Shape", dim=sizes)
        tensor = _message("TensorType", elem_type=TENSOR_TYPES["float32"], shape=shape)
        return _message("Value", name=name, type=_message("Type", tensor_type=tensor))


def _message(kind: str, **fields: Any) -> Any:
    return _classes()[kind](**fields)


@cache
def _classes() -> dict[str, Any]:
    """Return protobuf's class for each message of the table."""
    file = FileDescriptorProto(name="onnx.proto", package="onnx")
    for name, fields in MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, number, kind in fields:
            scalar = getattr(FieldDescriptorProto, f"TYPE_{kind.upper()}", None)
            many = field.endswith("*")
            message.field.add(
                name=field.rstrip("*"),
                number=number,
                label=FieldDescriptorProto.LABEL_REPEATED if many else FieldDescriptorProto.LABEL_OPTIONAL,
                type=scalar or FieldDescriptorProto.TYPE_MESSAGE,
                type_name=None if scalar else f".onnx.{kind}",
            )
    pool = DescriptorPool()
    pool.Add(file)
    return {name: GetMessageClass(pool.FindMessageTypeByName(f"onnx.{name}")) for name in MESSAGES}
