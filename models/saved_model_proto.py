"""The parts of saved_model.pb that we read, without importing TensorFlow.

The field numbers are those of TensorFlow's own .proto files (tensorflow/core/protobuf and
tensorflow/core/framework), which never change; `tests/test_saved_model_proto.py` holds them to the
installed TensorFlow, and makes sure that no place that can hold an operation or name a function is
missing here. What is left out, above all the weights of constants, is skipped when it is read.
"""

from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

from models.contract import ContractError

# Message: {field: (number, type)}. *X is repeated; {X} is a map from strings, {uint32: X} from
# numbers.
SCHEMA: dict[str, dict[str, tuple[int, str]]] = {
    "SavedModel": {"meta_graphs": (2, "*MetaGraphDef")},
    "MetaGraphDef": {
        "meta_info_def": (1, "MetaInfoDef"),
        "graph_def": (2, "GraphDef"),
        "saver_def": (3, "SaverDef"),
        "signature_def": (5, "{SignatureDef}"),
        "object_graph_def": (7, "SavedObjectGraph"),
    },
    "MetaInfoDef": {"stripped_op_list": (2, "OpList"), "tags": (4, "*string")},
    "OpList": {"op": (1, "*OpDef")},
    "GraphDef": {"node": (1, "*NodeDef"), "library": (2, "FunctionDefLibrary")},
    "FunctionDefLibrary": {
        "function": (1, "*FunctionDef"),
        "gradient": (2, "*GradientDef"),
        "registered_gradients": (3, "*RegisteredGradient"),
    },
    "GradientDef": {"function_name": (1, "string"), "gradient_func": (2, "string")},
    "RegisteredGradient": {"gradient_func": (1, "string")},
    "FunctionDef": {
        "signature": (1, "OpDef"),
        "node_def": (3, "*NodeDef"),
        "attr": (5, "{AttrValue}"),
        "arg_attr": (7, "{uint32: ArgAttrs}"),
    },
    "ArgAttrs": {"attr": (1, "{AttrValue}")},
    "OpDef": {"name": (1, "string"), "attr": (4, "*AttrDef")},
    "AttrDef": {"default_value": (3, "AttrValue"), "allowed_values": (7, "AttrValue")},
    "NodeDef": {"name": (1, "string"), "op": (2, "string"), "attr": (5, "{AttrValue}")},
    "AttrValue": {"list": (1, "ListValue"), "func": (10, "NameAttrList")},
    "ListValue": {"func": (9, "*NameAttrList")},
    "NameAttrList": {"name": (1, "string"), "attr": (2, "{AttrValue}")},
    "SaverDef": {"save_tensor_name": (2, "string"), "restore_op_name": (3, "string")},
    "SignatureDef": {"inputs": (1, "{TensorInfo}"), "outputs": (2, "{TensorInfo}")},
    "TensorInfo": {"dtype": (2, "int32"), "tensor_shape": (3, "TensorShapeProto")},
    "TensorShapeProto": {"dim": (2, "*Dim"), "unknown_rank": (3, "bool")},
    "Dim": {"size": (1, "int64")},
    "SavedObjectGraph": {
        "nodes": (1, "*SavedObject"),
        "concrete_functions": (2, "{SavedConcreteFunction}"),
    },
    "SavedObject": {
        "function": (6, "SavedFunction"),
        "bare_concrete_function": (8, "SavedBareConcreteFunction"),
    },
    "SavedFunction": {"concrete_functions": (1, "*string")},
    "SavedBareConcreteFunction": {"concrete_function_name": (1, "string")},
    "SavedConcreteFunction": {},
}

_PACKAGE = "heliograph"
_SCALARS = ("string", "int32", "int64", "uint32", "bool")


def read(path: Path) -> Any:
    """Read the saved_model.pb in the folder `path`.

    Raises:
        ContractError: it cannot be read, or is no SavedModel.
    """
    file = path / "saved_model.pb"
    try:
        message = _SAVED_MODEL()
        message.ParseFromString(file.read_bytes())
    except OSError as error:
        raise ContractError(
            f"cannot load the SavedModel {path}: cannot read {file} ({error.strerror})"
        ) from error
    except DecodeError as error:
        raise ContractError(
            f"cannot load the SavedModel {path}: saved_model.pb is broken or none ({error})"
        ) from error
    if len(message.meta_graphs) != 1:
        raise ContractError(
            f"cannot load the SavedModel {path}: it holds {len(message.meta_graphs)} graphs, and "
            "only models of one can be run; export the one to serve alone"
        )
    return message


def _message_class() -> Any:
    file = descriptor_pb2.FileDescriptorProto(
        name="heliograph/saved_model.proto", package=_PACKAGE, syntax="proto3"
    )
    for name, fields in SCHEMA.items():
        message = file.message_type.add(name=name)
        for field, (number, kind) in fields.items():
            _add_field(message, field, number, kind)
    # In a pool of its own, since TensorFlow's files describe the same things in the usual one.
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.SavedModel"))


def _add_field(message: Any, name: str, number: int, kind: str) -> None:
    if kind.startswith("{"):
        *key, value = kind[1:-1].split(": ")
        entry = message.nested_type.add(name=name.title().replace("_", "") + "Entry")
        entry.options.map_entry = True
        _add_field(entry, "key", 1, key[0] if key else "string")
        _add_field(entry, "value", 2, value)
        kind = f"*{message.name}.{entry.name}"
    field = message.field.add(name=name, number=number)
    repeated, kind = kind.startswith("*"), kind.removeprefix("*")
    field.label = field.LABEL_REPEATED if repeated else field.LABEL_OPTIONAL
    if kind in _SCALARS:
        field.type = getattr(field, f"TYPE_{kind.upper()}")
    else:
        field.type = field.TYPE_MESSAGE
        field.type_name = f".{_PACKAGE}.{kind}"


_SAVED_MODEL = _message_class()
