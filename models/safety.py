"""What a SavedModel could do besides computing, found in its graph before it is loaded.

A SavedModel is a program: TensorFlow runs its initialisers when it is loaded and its functions when
it is served, and among TensorFlow's operations are some that read and write files, open connections
and call Python. The graph is therefore held to a list of operations that only compute
(`models.operations`). A list of forbidden ones would have to be complete, on every TensorFlow and
with every library of custom operations loaded; what is missing from a list of allowed ones is a
refusal that a person can look at.

Everything in the file counts, wherever it stands: nodes of the graph, of functions whether or not
anything calls them, and functions that attributes name at any depth (the branches of If, the body
of While). One thing is excused, because `tf.saved_model.save` writes it into every model: the
saver's own reading and writing of checkpoints, in functions that nothing but the saver refers to.
TensorFlow loads such a model without running them.

This is no sandbox. It says nothing of models that take all memory or time, nor of faults in
TensorFlow's own operations.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from models import saved_model_proto
from models.contract import ContractError
from models.operations import ALLOWED, OF_CHECKPOINTS

# How many places an error names.
_NAMED = 6


class UnsafeModelError(ContractError):
    """A SavedModel with operations that do more than compute, or that nobody knows."""


def require_safe(path: Path) -> None:
    """Make sure that a SavedModel only computes.

    Args:
        path: the folder of the SavedModel.

    Raises:
        UnsafeModelError: its graph has other operations; the message names them and their
            functions.
        ContractError: its graph cannot be read.
    """
    if (path / "saved_model.cpb").exists():
        raise UnsafeModelError(
            f"the SavedModel {path} is refused: it holds a second graph, saved_model.cpb, which "
            "cannot be searched; remove it, or say --trust_model if you trust where the model is "
            "from"
        )
    (graph,) = saved_model_proto.read(path).meta_graphs
    found = search(graph)
    if not found:
        return
    if not graph.HasField("object_graph_def") and set(found) <= OF_CHECKPOINTS:
        raise UnsafeModelError(
            f"the SavedModel {path} is refused: it is of TensorFlow 1, whose models run what reads "
            "and writes their checkpoints on loading. Save it anew with tf.saved_model.save, or "
            "say --trust_model if you trust where it is from"
        )
    places = [f"{name} ({_listed(where)})" for name, where in sorted(found.items())]
    raise UnsafeModelError(
        f"the SavedModel {path} is refused: besides computing, it could touch files, the network "
        f"or Python by operations that are not known to be harmless: {_listed(places, '; ')}. "
        "A SavedModel is a program; say --trust_model if you trust where this one is from"
    )


def search(graph: Any) -> dict[str, list[str]]:
    """Find the operations of a MetaGraphDef that are not known to be harmless.

    Returns:
        Where each was found, by its name: "the graph", or the names of functions.
    """
    bodies: dict[str, list[Any]] = defaultdict(list)
    for function in graph.graph_def.library.function:
        bodies[function.signature.name].append(function)
    excused = _saver_functions(graph, bodies)
    found: dict[str, set[str]] = defaultdict(set)
    for node in graph.graph_def.node:
        for name in _of_node(node):
            if name not in bodies and name not in ALLOWED:
                found[name].add("in the graph")
    for owner, functions in bodies.items():
        allowed = ALLOWED | OF_CHECKPOINTS if owner in excused else ALLOWED
        for name in _of_functions(functions):
            if name not in bodies and name not in allowed:
                found[name].add(f"in function {owner}")
    for operation in graph.meta_info_def.stripped_op_list.op:
        for name in _of_definition(operation):
            if name not in bodies and name not in ALLOWED:
                found[name].add("in the list of operations")
    return {name: sorted(where) for name, where in found.items()}


def _saver_functions(graph: Any, bodies: dict[str, list[Any]]) -> set[str]:
    """Give the functions that only the saver refers to, however many calls deep.

    Without an object graph, TensorFlow loads a model as its first version did, by running the
    saver: then none is excused.
    """
    if not graph.HasField("object_graph_def"):
        return set()
    saver = graph.saver_def
    # The name of a tensor is that of its node and a number: "StatefulPartitionedCall_1:0".
    nodes = {name.partition(":")[0] for name in (saver.save_tensor_name, saver.restore_op_name)}
    of_saver: list[str] = []
    others: list[str] = []
    for node in graph.graph_def.node:
        (of_saver if node.name in nodes else others).extend(_of_node(node))
    by_saver = _reached(of_saver, bodies)
    others += _of_objects(graph.object_graph_def)
    others += _of_gradients(graph.graph_def.library)
    others += set(bodies) - by_saver
    return by_saver - _reached(others, bodies)


def _reached(names: Iterable[str], bodies: dict[str, list[Any]]) -> set[str]:
    """Give the functions among `names`, and those that they refer to, and so on."""
    reached: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name in bodies and name not in reached:
            reached.add(name)
            waiting += _of_functions(bodies[name])
    return reached


def _of_functions(functions: list[Any]) -> Iterator[str]:
    """Give the operations and functions that FunctionDefs name: all that share one name, of which
    TensorFlow takes whichever it likes.
    """
    for function in functions:
        for node in function.node_def:
            yield from _of_node(node)
        yield from _of_attributes(function.attr)
        for argument in function.arg_attr.values():
            yield from _of_attributes(argument.attr)
        yield from _of_definition(function.signature)


def _of_node(node: Any) -> Iterator[str]:
    yield node.op
    yield from _of_attributes(node.attr)


def _of_attributes(attributes: Any) -> Iterator[str]:
    for value in attributes.values():
        yield from _of_value(value)


def _of_value(value: Any) -> Iterator[str]:
    functions = [value.func] if value.HasField("func") else []
    if value.HasField("list"):
        functions += value.list.func
    for function in functions:
        yield function.name
        yield from _of_attributes(function.attr)


def _of_definition(operation: Any) -> Iterator[str]:
    """Give the functions that an OpDef's attributes have for defaults."""
    for attribute in operation.attr:
        yield from _of_value(attribute.default_value)
        yield from _of_value(attribute.allowed_values)


def _of_objects(objects: Any) -> Iterator[str]:
    """Give the functions that the Python objects of a model call."""
    yield from objects.concrete_functions
    for node in objects.nodes:
        yield from node.function.concrete_functions
        yield node.bare_concrete_function.concrete_function_name


def _of_gradients(library: Any) -> Iterator[str]:
    for gradient in library.gradient:
        yield from (gradient.function_name, gradient.gradient_func)
    for gradient in library.registered_gradients:
        yield gradient.gradient_func


def _listed(items: list[str], between: str = ", ") -> str:
    more = f" and {len(items) - _NAMED} more" if len(items) > _NAMED else ""
    return between.join(items[:_NAMED]) + more
