"""Saliency from a layer's feature map and the gradient of the output by it: Grad-CAM, Grad-CAM++, LayerCAM."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from explain.attribution import Estimate
from explain.errors import BudgetTooSmall, LayerDoesNotFit, MethodDoesNotFit, NotFinite
from explain.game import Game, Rows
from explain.limits import Limits
from explain.positions import PositionPlayers, position_shape, resized

Maps = NDArray[np.floating[Any]]
"""`(n_rows, *cells, n_channels)`: one, two or three axes of cells."""
Weigh = Callable[[NDArray[np.float64], NDArray[np.float64]], NDArray[np.float64]]
"""From maps and gradients of one row, both `(n_cells, n_channels)`, to what each cell says, `(n_cells,)`."""

WITHOUT_A_MAP = ("exact", "kernel", "expected-gradients", "occlusion")
"""What explains a network that has no feature map."""
REARRANGING = (
    *("Diagonal", "Dot", "Einsum", "Flip", "GetItem", "Matmul", "Moveaxis", "Pad", "Ravel", "Repeat", "Reshape"),
    *("Roll", "Rot90", "Sort", "Swapaxes", "Take", "TakeAlongAxis", "Tensordot", "Tile", "Transpose"),
)
"""Operations of `keras.ops` after which a position is not where it was, or comes from all."""


class FeatureMaps(Protocol):
    """A layer's feature maps and the gradient of one chosen output per row by them, in calls of a fixed size.

    Called with rows `(slice_rows, *row_shape)` and target indices `(slice_rows,)`, it returns both, `Maps`.
    """

    slice_rows: int
    layer: str

    def __call__(self, rows: Rows, targets: NDArray[np.int32]) -> tuple[Maps, Maps]: ...


def grad_cam(game: Game, maps: FeatureMaps, targets: Sequence[int], *, limits: Limits) -> Estimate:
    """Grad-CAM: max(0, the sum over channels of the map times its gradient's mean over the cells).

    Selvaraju et al. 2017, "Grad-CAM: visual explanations from deep networks via gradient-based localization", eq. 1
    and 2. On a network that ends in global average pooling and one linear layer this is class activation mapping
    (Zhou et al. 2016), and where no cell is negative the attributions add up to the output less the layer's bias.

    The map over the layer's cells is brought to the input's positions by linear interpolation (`positions.resized`),
    each cell's value divided over the positions it covers, and summed to players (`PositionPlayers`). Negative
    evidence is cut off: attributions are never below 0. It follows the output that the game is about: gradients of a
    probability shrink where it saturates, those of log-odds do not.

    Args:
        maps: of the network behind the game, for rows of the game's shape.
        targets: the outputs to explain, one row put through the network for each.
        limits: only the budget counts: nothing is sampled.

    Returns:
        An `Estimate` of the estimand "saliency", which claims no axioms. Nothing is sampled: its errors are NaN. Its
        efficiency residual is what the map leaves unsaid.

    Raises:
        BudgetTooSmall: when the budget is below the number of targets.
        NotFinite: when the model's answer, the map or its gradient holds NaN or infinity.
    """
    return _map_over_positions("grad-cam", _grad_cam, game, maps, targets, limits)


def grad_cam_plus_plus(game: Game, maps: FeatureMaps, targets: Sequence[int], *, limits: Limits) -> Estimate:
    """Grad-CAM++: as Grad-CAM, with the positive gradients of a channel weighted by how much each cell adds to them.

    Chattopadhay et al. 2018, "Grad-CAM++: generalized gradient-based visual explanations for deep convolutional
    networks", eq. 9 and 19: with Y = exp(score) the second and third derivatives of a piecewise linear network are
    powers of the first. The factor exp(score), the same for every cell, is left out. The paper's maps are not
    negative; where a channel's sum over the cells is, it counts as 0, so that weights stay within [0, 1/2].

    Arguments, result and errors are those of `grad_cam`.
    """
    return _map_over_positions("grad-cam++", _grad_cam_plus_plus, game, maps, targets, limits)


def layer_cam(game: Game, maps: FeatureMaps, targets: Sequence[int], *, limits: Limits) -> Estimate:
    """LayerCAM: max(0, the sum over channels of the map times its gradient's positive part), cell by cell.

    Jiang et al. 2021, "LayerCAM: exploring hierarchical class activation maps for localization", eq. 6 and 7. Since
    cells have weights of their own, it suits early layers with fine maps too.

    Arguments, result and errors are those of `grad_cam`.
    """
    return _map_over_positions("layer-cam", _layer_cam, game, maps, targets, limits)


def _grad_cam(maps: NDArray[np.float64], gradients: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.einsum("ck,k->c", maps, gradients.mean(axis=0))


def _grad_cam_plus_plus(maps: NDArray[np.float64], gradients: NDArray[np.float64]) -> NDArray[np.float64]:
    positive = np.maximum(gradients, 0)
    # g^2 / (2 g^2 + sum(A) g^3), shortened by g^2; only where g > 0 does it count.
    shares = 1 / (2 + np.maximum(maps.sum(axis=0), 0) * positive)
    return np.einsum("ck,k->c", maps, (shares * positive).sum(axis=0))


def _layer_cam(maps: NDArray[np.float64], gradients: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.einsum("ck,ck->c", maps, np.maximum(gradients, 0))


def _map_over_positions(
    method: str, weigh: Weigh, game: Game, maps: FeatureMaps, targets: Sequence[int], limits: Limits
) -> Estimate:
    chosen = list(targets)
    if limits.budget is not None and limits.budget < len(chosen):
        raise BudgetTooSmall(method, len(chosen), limits.budget)
    if not np.isfinite(game.value).all():
        raise NotFinite(method, "the model's answer")
    shape = position_shape(game.row.shape)
    players = PositionPlayers(game)
    attributions = np.zeros((game.n_players, len(chosen)))
    rows = np.tile(game.row, (maps.slice_rows,) + (1,) * game.row.ndim)
    for start in range(0, len(chosen), maps.slice_rows):
        part = chosen[start : start + maps.slice_rows]
        # Slices have a fixed size: the last is filled up with its first target.
        filled = np.array(part + part[:1] * (maps.slice_rows - len(part)), dtype=np.int32)
        features, gradients = maps(rows, filled)
        for i in range(len(part)):
            cells = features[i].shape[:-1]
            pair = [values[i].reshape(-1, values.shape[-1]).astype(np.float64) for values in (features, gradients)]
            if not all(np.isfinite(values).all() for values in pair):
                raise NotFinite(method, f"the feature map of layer {maps.layer!r} or the gradient by it")
            heat = resized(np.maximum(weigh(*pair), 0).reshape(cells), shape)
            attributions[:, start + i] = players.sum(heat.reshape(1, -1) * (np.prod(cells) / np.prod(shape)))[0]
    nothing_sampled = np.full_like(attributions, np.nan)
    return Estimate(
        method=method,
        estimand="saliency",
        attributions=attributions,
        standard_errors=nothing_sampled,
        half_widths=nothing_sampled,
        values=game.value[chosen],
        base_values=game.background.base_values[chosen],
        scales=game.scales[chosen],
        evaluations=len(chosen),
        stop_reason="closed-form",
    )


class KerasFeatureMaps:
    """A layer's maps and gradients in a Keras model, compiled once; only what follows the layer is differentiated.

    Args:
        model: a graph of layers from one input to `(n_rows, n_targets)`.
        layer: by name, one of `fitting_layers(model)`. Without one it is the last of them that is not a pooling layer.
        slice_rows: rows of every call.

    Raises:
        LayerDoesNotFit: when the layer does not exist or gives no feature map over the input.
        MethodDoesNotFit: when there is no such layer in the model.
    """

    def __init__(self, model: Any, layer: str | None = None, slice_rows: int = 1) -> None:
        import keras
        import tensorflow as tf

        graph = _graph_of(model)
        found = _feature_maps(graph)
        if not found:
            reason = "the network has no convolution whose feature map lies over the input"
            raise MethodDoesNotFit("grad-cam", reason, WITHOUT_A_MAP)
        if layer is None:
            unpooled = [name for name, node in found.items() if not _pools(node.operation)]
            layer = unpooled[-1] if unpooled else next(reversed(found))
        if layer not in found:
            raise LayerDoesNotFit(layer, list(found))
        self.layer, self.slice_rows = layer, slice_rows
        features = found[layer].output_tensors[0]
        # What follows the layer may also take what passes it by, as the sum after a residual block does.
        cut = [features, *_passing_by(graph, features)]
        before, after = keras.Model(graph.inputs, cut), keras.Model(cut, graph.output)
        shape = graph.inputs[0].shape[1:]
        signature = [tf.TensorSpec((slice_rows, *shape), tf.float32), tf.TensorSpec((slice_rows,), tf.int32)]

        # Without XLA: for one row at a time it gains little, and it lacks operations that heads are made of.
        @tf.function(input_signature=signature, autograph=False)
        def maps(rows: Any, targets: Any) -> Any:
            watched, *others = keras.tree.flatten(before(rows, training=False))
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(watched)
                chosen = tf.gather(after([watched, *others], training=False), targets, batch_dims=1)
            return watched, tape.gradient(chosen, watched)

        self._maps = maps
        self(np.zeros((slice_rows, *shape), np.float32), np.zeros(slice_rows, np.int32))

    def __call__(self, rows: Rows, targets: NDArray[np.int32]) -> tuple[Maps, Maps]:
        features, gradients = self._maps(rows, targets)
        return features.numpy(), gradients.numpy()


def fitting_layers(model: Any) -> list[str]:
    """The layers whose feature maps lie over the input, from input to output.

    A map fits when it comes after a convolution, has the input's axes (those of tokens gain channels by an embedding)
    and more than one cell, and nothing on its way rearranges positions or mixes them all: reshaping, recurrence,
    attention. A model used as a layer is one layer, by its own name.

    Raises:
        MethodDoesNotFit: when the model is not a graph of layers with one input of a known shape.
    """
    return list(_feature_maps(_graph_of(model)))


def _graph_of(model: Any) -> Any:
    import keras

    inputs, outputs = getattr(model, "inputs", None), getattr(model, "outputs", None)
    if not inputs or not outputs:
        raise MethodDoesNotFit("grad-cam", "the network is not a graph of layers", WITHOUT_A_MAP)
    if len(inputs) != 1:
        reason = f"the network takes {len(inputs)} inputs, and a map lies over one"
        raise MethodDoesNotFit("grad-cam", reason, WITHOUT_A_MAP)
    if None in inputs[0].shape[1:]:
        reason = f"the network's input has no fixed shape: {inputs[0].shape}"
        raise MethodDoesNotFit("grad-cam", reason, WITHOUT_A_MAP)
    return keras.Model(inputs, outputs[0])


def _nodes(graph: Any) -> list[Any]:
    """The calls of layers and operations that the graph is made of, each after those it depends on."""
    return [node for depth in sorted(graph._nodes_by_depth, reverse=True) for node in graph._nodes_by_depth[depth]]


def _feature_maps(graph: Any) -> dict[str, Any]:
    """The nodes of layers with a feature map over the input, by the layer's name."""
    import keras

    # The tensors whose positions are the input's, and whether a convolution has seen them.
    over_input = {id(tensor): False for tensor in graph.inputs}
    found: dict[str, Any] = {}
    for node in _nodes(graph):
        spatial = [tensor for tensor in node.input_tensors if _has_cells(tensor)]
        if not spatial or _mixes(node.operation) or any(id(tensor) not in over_input for tensor in spatial):
            continue
        convolved = _convolves(node.operation) or any(over_input[id(tensor)] for tensor in spatial)
        n_axes = max(len(tensor.shape) for tensor in spatial) + isinstance(node.operation, keras.layers.Embedding)
        for output in node.output_tensors:
            if len(output.shape) == n_axes >= 3 and _has_cells(output):
                over_input[id(output)] = convolved
                if convolved:
                    found[node.operation.name] = node
    return found


def _has_cells(tensor: Any) -> bool:
    """Whether there is more than one position: a token, or a cell along the axes before the channels."""
    positions = position_shape(tuple(tensor.shape[1:]))
    return any(size is None or size > 1 for size in positions)


def _convolves(operation: Any) -> bool:
    import keras

    layers = keras.layers
    convolutions = (
        *(layers.Conv1D, layers.Conv2D, layers.Conv3D),
        *(layers.Conv1DTranspose, layers.Conv2DTranspose, layers.Conv3DTranspose),
        *(layers.DepthwiseConv1D, layers.DepthwiseConv2D, layers.SeparableConv1D, layers.SeparableConv2D),
    )
    return any(isinstance(layer, convolutions) for layer in _within(operation))


def _mixes(operation: Any) -> bool:
    """Whether positions may not stay where they are: they are rearranged, or each comes from all of them."""
    import keras

    layers = keras.layers
    mixing = (
        *(layers.Flatten, layers.Reshape, layers.Permute, layers.RepeatVector, layers.Dot),
        *(layers.RNN, layers.Bidirectional, layers.ConvLSTM1D, layers.ConvLSTM2D, layers.ConvLSTM3D),
        *(layers.MultiHeadAttention, layers.GroupQueryAttention, layers.Attention, layers.AdditiveAttention),
    )
    return any(
        isinstance(part, mixing)
        or (not isinstance(part, layers.Layer) and type(part).__name__ in REARRANGING)
        # Maps with their channels first have other axes than the input's positions.
        or getattr(part, "data_format", "channels_last") == "channels_first"
        for part in _within(operation)
    )


def _pools(operation: Any) -> bool:
    return "Pooling" in type(operation).__name__


def _within(operation: Any) -> list[Any]:
    """An operation, and where it is a model or a wrapper the layers inside it."""
    flatten = getattr(operation, "_flatten_layers", None)
    return [operation] if flatten is None else list(flatten())


def _passing_by(graph: Any, features: Any) -> list[Any]:
    """The tensors that what follows the feature map takes and that do not come from it."""
    after = {id(features)}
    needed: dict[int, Any] = {}
    for node in _nodes(graph):
        if any(id(tensor) in after for tensor in node.input_tensors):
            after.update(id(tensor) for tensor in node.output_tensors)
            needed.update((id(tensor), tensor) for tensor in node.input_tensors)
    return [tensor for key, tensor in needed.items() if key not in after]
