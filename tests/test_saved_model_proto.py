"""Our reading of saved_model.pb against TensorFlow's own."""

import pytest
from google.protobuf.descriptor_pb2 import DescriptorProto

from models import saved_model_proto, zoo
from models.contract import ContractError
from models.saved_model import import_tensorflow


@pytest.fixture(scope="module")
def tensorflows():
    """TensorFlow's own descriptors of messages, by name."""
    import_tensorflow()
    from tensorflow.core.protobuf import saved_model_pb2

    found, waiting = {}, [saved_model_pb2.SavedModel.DESCRIPTOR]
    while waiting:
        message = waiting.pop()
        if message.full_name not in found:
            found[message.full_name] = message
            waiting += [field.message_type for field in message.fields if field.message_type]
    return found


def inner(message):
    """The fields of a message, seeing through maps, with the message they hold."""
    for field in message.fields:
        held = field.message_type
        if held is not None and held.GetOptions().map_entry:
            held = held.fields_by_name["value"].message_type
        yield field, held


def labels(message):
    """Whether each field of a message is repeated."""
    described = DescriptorProto()
    message.CopyToProto(described)
    return {field.name: field.label == field.LABEL_REPEATED for field in described.field}


def test_every_field_is_tensorflows(tensorflows):
    by_name = {message.name: message for message in tensorflows.values()}
    by_name["ListValue"] = tensorflows["tensorflow.AttrValue.ListValue"]
    ours = saved_model_proto._SAVED_MODEL.DESCRIPTOR.file.message_types_by_name
    assert set(ours) == set(saved_model_proto.SCHEMA)
    for name, message in ours.items():
        for field, held in inner(message):
            theirs, held_there = {f.name: (f, h) for f, h in inner(by_name[name])}[field.name]
            assert field.number == theirs.number, (name, field.name)
            assert labels(message)[field.name] == labels(by_name[name])[field.name], (
                name,
                field.name,
            )
            assert (held and held.name) == (held_there and held_there.name), (name, field.name)
            if held is None and theirs.enum_type is None:
                assert field.type == theirs.type, (name, field.name)


def test_no_place_for_an_operation_or_a_function_is_missing(tensorflows):
    # From TensorFlow's schema: every message from which a node or the name of a function can be
    # reached must be reached by ours through the same field.
    telling = {
        "tensorflow.NodeDef",
        "tensorflow.FunctionDef",
        "tensorflow.NameAttrList",
        "tensorflow.GradientDef",
        "tensorflow.RegisteredGradient",
        "tensorflow.SavedFunction",
        "tensorflow.SavedBareConcreteFunction",
    }
    leading = set(telling)
    while True:
        more = {
            name
            for name, message in tensorflows.items()
            if name not in leading
            and any(held is not None and held.full_name in leading for _, held in inner(message))
        }
        if not more:
            break
        leading |= more
    missing = {
        f"{message.name}.{field.name}"
        for name, message in tensorflows.items()
        if name in leading and not message.GetOptions().map_entry
        for field, held in inner(message)
        if held is not None
        and held.full_name in leading
        and field.name not in saved_model_proto.SCHEMA.get(message.name, {})
    }
    assert missing == set()


def test_a_file_reads_as_tensorflow_reads_it():
    from tensorflow.core.protobuf import saved_model_pb2

    path = zoo.path("denoise")
    theirs = saved_model_pb2.SavedModel.FromString((path / "saved_model.pb").read_bytes())
    (ours,), (graph,) = saved_model_proto.read(path).meta_graphs, theirs.meta_graphs
    for mine, other in zip(
        ours.graph_def.library.function, graph.graph_def.library.function, strict=True
    ):
        assert mine.signature.name == other.signature.name
        assert [node.op for node in mine.node_def] == [node.op for node in other.node_def]
    dims = graph.signature_def["serving_default"].inputs["image"].tensor_shape.dim
    found = ours.signature_def["serving_default"].inputs["image"].tensor_shape.dim
    assert [dim.size for dim in found] == [dim.size for dim in dims] == [-1, -1, -1, 3]


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"not a graph", "broken or none"), (b"", "it holds 0 graphs"), (None, "cannot read")],
    ids=["text", "empty", "missing"],
)
def test_what_is_no_saved_model_is_named(tmp_path, content, said):
    if content is not None:
        (tmp_path / "saved_model.pb").write_bytes(content)
    with pytest.raises(ContractError, match=f"cannot load the SavedModel {tmp_path}: .*{said}"):
        saved_model_proto.read(tmp_path)
