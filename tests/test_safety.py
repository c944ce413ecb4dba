"""Hostile SavedModels are refused wherever they hide what they do, and harmless ones are not."""

import re
import shutil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models import saved_model, saved_model_proto, zoo
from models.contract import Contract, ContractError
from models.operations import ALLOWED, OF_CHECKPOINTS
from models.safety import UnsafeModelError, require_safe, search
from models.saved_model import import_tensorflow
from tests import saved_models

CONTRACT = Contract(name="hidden")


def test_what_tensorflow_and_keras_write_is_not_refused(models, tmp_path):
    for path in (*models.iterdir(), zoo.path("denoise")):
        require_safe(path)
    import keras

    image = keras.Input((32, 32, 3))
    features = keras.layers.Conv2D(4, 3, padding="same", activation="gelu")(image)
    features = keras.layers.BatchNormalization()(keras.layers.MaxPooling2D()(features))
    features = keras.layers.UpSampling2D(interpolation="bilinear")(features)
    network = keras.Model(image, keras.layers.Conv2DTranspose(3, 3, padding="same")(features))
    network.export(str(tmp_path / "keras"), verbose=False)
    require_safe(tmp_path / "keras")


def test_a_write_two_functions_deep_is_refused_and_did_not_run(tmp_path):
    written = tmp_path / "written"
    path = saved_models.hidden_write(tmp_path / "hidden", written)
    with pytest.raises(UnsafeModelError) as refusal:
        saved_model.load(str(path), contract=CONTRACT)
    assert re.search(r"WriteFile \(in function \S*innermost\S*\)", str(refusal.value))
    assert "--trust_model" in str(refusal.value)
    assert not written.exists()
    # That it is no empty threat: trusted, it writes.
    trusted = saved_model.load(str(path), contract=CONTRACT, trust=True)
    trusted(np.zeros((1, 8, 8, 3), np.float32))
    assert written.read_text() == "here I was"


def test_what_runs_on_loading_is_searched_too(tmp_path):
    tf = import_tensorflow()
    secrets = tmp_path / "secrets.txt"
    secrets.write_text("password\n")

    class Module(tf.Module):
        def __init__(self):
            super().__init__()
            lines = tf.lookup.TextFileInitializer(
                str(secrets), tf.string, 0, tf.int64, tf.lookup.TextFileIndex.LINE_NUMBER
            )
            self.table = tf.lookup.StaticHashTable(lines, -1)

        @tf.function(input_signature=[tf.TensorSpec((None, None, None, 3), tf.float32, "image")])
        def serve(self, image):
            return {"output": image + tf.cast(self.table.size(), tf.float32)}

    module = Module()
    path = tmp_path / "table"
    tf.saved_model.save(module, str(path), signatures=module.serve)
    with pytest.raises(UnsafeModelError, match="InitializeTableFromTextFileV2"):
        require_safe(path)


def test_a_model_of_tensorflow_1_is_refused_for_what_it_is(spoiled, tmp_path):
    spoiled.meta_graphs[0].ClearField("object_graph_def")
    (tmp_path / "saved_model.pb").write_bytes(spoiled.SerializeToString())
    with pytest.raises(UnsafeModelError, match="is of TensorFlow 1"):
        require_safe(tmp_path)
    spoiled.meta_graphs[0].graph_def.node.add(name="w", op="WriteFile")
    (tmp_path / "saved_model.pb").write_bytes(spoiled.SerializeToString())
    with pytest.raises(UnsafeModelError, match="WriteFile"):
        require_safe(tmp_path)


def test_a_second_graph_that_cannot_be_searched_is_refused(models, tmp_path):
    path = shutil.copytree(models / "identity", tmp_path / "two")
    (path / "saved_model.cpb").write_bytes(b"")
    with pytest.raises(UnsafeModelError, match=r"saved_model\.cpb"):
        require_safe(path)


# -- Graphs made by hand ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def benign(models):
    """TensorFlow's own reading of a model with a saver, whose copies the tests spoil."""
    from tensorflow.core.protobuf import saved_model_pb2

    data = (models / "identity" / "saved_model.pb").read_bytes()
    return saved_model_pb2.SavedModel.FromString(data)


@pytest.fixture
def spoiled(benign):
    copy = type(benign)()
    copy.CopyFrom(benign)
    return copy


def found(model):
    """What the search makes of it, by way of bytes."""
    (graph,) = saved_model_proto._SAVED_MODEL.FromString(model.SerializeToString()).meta_graphs
    return search(graph)


def function(graph, name, *operations):
    new = graph.graph_def.library.function.add()
    new.signature.name = name
    for number, operation in enumerate(operations):
        new.node_def.add(name=f"n{number}", op=operation)
    return new


def serving(graph):
    """The function that the serving signature calls first."""
    return next(
        one for one in graph.graph_def.library.function if "signature_wrapper" in one.signature.name
    )


def saver(graph):
    return next(
        one.signature.name
        for one in graph.graph_def.library.function
        if "traced_save" in one.signature.name
    )


def in_graph(graph):
    graph.graph_def.node.add(name="w", op="WriteFile")


def in_initialiser(graph):
    graph.graph_def.node.add(name="w", op="WriteFile")
    del graph.collection_def["saved_model_main_op"].node_list.value[:]
    graph.collection_def["saved_model_main_op"].node_list.value.append("w")


def uncalled(graph):
    function(graph, "sleeper", "WriteFile")


def called_by_name(graph):
    function(graph, "harmless", "Identity", "WriteFile")
    serving(graph).node_def.add(name="c", op="harmless")


def in_attribute(operation, attribute):
    def spoil(graph):
        function(graph, "branch", "WriteFile")
        node = serving(graph).node_def.add(name="c", op=operation)
        node.attr[attribute].func.name = "branch"

    spoil.__name__ = f"in_{operation}"
    return spoil


def in_list(graph):
    function(graph, "branch", "WriteFile")
    node = serving(graph).node_def.add(name="c", op="Case")
    node.attr["branches"].list.func.add(name="branch")


def in_nested_attribute(graph):
    node = serving(graph).node_def.add(name="c", op="PartitionedCall")
    node.attr["f"].func.name = serving(graph).signature.name
    inner = node.attr["f"].func.attr["g"].func
    inner.name = node.attr["f"].func.name
    inner.attr["h"].list.func.add(name="WriteFile")


def operation_as_function(graph):
    node = serving(graph).node_def.add(name="c", op="PartitionedCall")
    node.attr["f"].func.name = "WriteFile"


def default_of_attribute(graph):
    new = function(graph, "generic", "Identity")
    new.signature.attr.add(name="f").default_value.func.name = "WriteFile"


def attribute_of_function(graph):
    function(graph, "generic", "Identity").attr["f"].func.name = "WriteFile"


def attribute_of_argument(graph):
    new = function(graph, "generic", "Identity")
    new.arg_attr[0].attr["f"].func.name = "WriteFile"


def in_gradient(graph):
    function(graph, "backwards", "WriteFile")
    graph.graph_def.library.gradient.add(
        function_name=serving(graph).signature.name, gradient_func="backwards"
    )


def same_name_twice(graph):
    name = serving(graph).signature.name
    original = type(serving(graph))()
    original.CopyFrom(serving(graph))
    function(graph, name, "WriteFile")
    graph.graph_def.library.function.append(original)


def in_saver(graph):
    for one in graph.graph_def.library.function:
        if one.signature.name == saver(graph):
            one.node_def.add(name="w", op="WriteFile")


@pytest.mark.parametrize(
    "spoil",
    [
        in_graph,
        in_initialiser,
        uncalled,
        called_by_name,
        in_attribute("PartitionedCall", "f"),
        in_attribute("StatefulPartitionedCall", "f"),
        in_attribute("If", "else_branch"),
        in_attribute("While", "cond"),
        in_attribute("While", "body"),
        in_attribute("MapDefun", "f"),
        in_list,
        in_nested_attribute,
        operation_as_function,
        default_of_attribute,
        attribute_of_function,
        attribute_of_argument,
        in_gradient,
        same_name_twice,
        in_saver,
    ],
    ids=lambda spoil: spoil.__name__,
)
def test_an_operation_is_found_wherever_it_hides(spoiled, spoil):
    assert found(spoiled) == {}
    spoil(spoiled.meta_graphs[0])
    assert set(found(spoiled)) == {"WriteFile"}


def call_saver(graph):
    node = serving(graph).node_def.add(name="c", op="StatefulPartitionedCall")
    node.attr["f"].func.name = saver(graph)


def call_saver_from_graph(graph):
    node = graph.graph_def.node.add(name="another", op="StatefulPartitionedCall")
    node.attr["f"].func.name = saver(graph)


def call_saver_from_uncalled(graph):
    new = function(graph, "sleeper", "Identity")
    new.node_def.add(name="c", op="If").attr["then_branch"].func.name = saver(graph)


def saver_as_initialiser(graph):
    graph.object_graph_def.nodes.add().function.concrete_functions.append(saver(graph))


def saver_as_bare_function(graph):
    node = graph.object_graph_def.nodes.add()
    node.bare_concrete_function.concrete_function_name = saver(graph)


def saver_as_concrete_function(graph):
    graph.object_graph_def.concrete_functions[saver(graph)].SetInParent()


def saver_as_gradient(graph):
    graph.graph_def.library.registered_gradients.add(gradient_func=saver(graph))


def no_objects(graph):
    graph.ClearField("object_graph_def")  # then TensorFlow runs the saver on loading


def outside_of_saver(graph):
    function(graph, "exporter", "SaveV2")


@pytest.mark.parametrize(
    "spoil",
    [
        call_saver,
        call_saver_from_graph,
        call_saver_from_uncalled,
        saver_as_initialiser,
        saver_as_bare_function,
        saver_as_concrete_function,
        saver_as_gradient,
        no_objects,
        outside_of_saver,
    ],
    ids=lambda spoil: spoil.__name__,
)
def test_checkpoints_are_excused_only_where_nothing_but_the_saver_leads(spoiled, spoil):
    spoil(spoiled.meta_graphs[0])
    assert "SaveV2" in found(spoiled)
    assert set(found(spoiled)) <= OF_CHECKPOINTS


@pytest.mark.parametrize("operation", ["SomebodysCustomOp", "ImmutableConst", "XlaCallModule"])
def test_what_nobody_knows_or_can_look_into_is_refused(spoiled, operation):
    serving(spoiled.meta_graphs[0]).node_def.add(name="x", op=operation)
    assert list(found(spoiled)) == [operation]


@settings(max_examples=60, deadline=None)
@given(
    links=st.lists(
        st.tuples(
            st.sampled_from(["op", "func", "list", "nested"]),
            st.sampled_from(["If", "While", "Case", "PartitionedCall", "MapDefun"]),
        ),
        max_size=6,
    ),
    last=st.sampled_from(["Relu", "WriteFile", "EagerPyFunc", "Unheard"]),
)
def test_no_chain_of_functions_is_too_long(benign, links, last):
    model = type(benign)()
    model.CopyFrom(benign)
    (graph,) = model.meta_graphs
    caller = serving(graph)
    for number, (kind, operation) in enumerate(links):
        name = f"link{number}"
        node = caller.node_def.add(name="c", op=name if kind == "op" else operation)
        if kind == "func":
            node.attr["f"].func.name = name
        elif kind == "list":
            node.attr["f"].list.func.add(name=name)
        elif kind == "nested":
            node.attr["f"].func.name = serving(graph).signature.name
            node.attr["f"].func.attr["g"].func.name = name
        caller = function(graph, name, "Identity")
    caller.node_def.add(name="last", op=last)
    where = [f"in function {caller.signature.name}"]
    assert found(model) == ({} if last == "Relu" else {last: where})


def test_the_list_holds_real_operations_and_none_that_reaches_out():
    tf = import_tensorflow()
    registry = {name for name in dir(tf.raw_ops) if not name.startswith("_")}
    assert not (ALLOWED | OF_CHECKPOINTS) - registry
    # By their names, without regard to the list: what TensorFlow has for files, wires and Python.
    reaching = re.compile(
        "File|Py|Save|Restore|Checkpoint|Reader|Dataset|Iterator|Summary|Send|Recv|Rpc|Remote|Socket"
        "|Queue|Stage|Session|Print|Debug|Dump|Decode|Encode|Audio|Xla|TPU|Collective|Nccl|TRT"
        "|TfLite|Copy(?!OnRead)|Load|Retrieve|Infeed|Outfeed|Table|Abort|Sleep|Immutable|Bigtable|LMDB"
    )
    assert sorted(filter(reaching.search, ALLOWED)) == ["DeepCopy"]  # of a tensor, in memory
    assert len(set(filter(reaching.search, registry))) > 400


def test_a_model_that_is_broken_is_no_safe_one(tmp_path):
    (tmp_path / "saved_model.pb").write_bytes(b"not a graph")
    with pytest.raises(ContractError, match="cannot load the SavedModel"):
        require_safe(tmp_path)
