"""What a fit will need is known before it is taken."""

from pathlib import Path
from typing import Any

import keras
import pytest
import tensorflow as tf

from models.datasets import load_builtin, split_dataset
from models.errors import NoGpu, NotEnoughMemory
from models.memory import NetworkSize, available_bytes, check_memory, measure_size, resident_peak_bytes
from models.spec import parse_spec
from models.training import fit


def test_size_is_that_of_the_network_without_making_it() -> None:
    def build(inputs: Any) -> Any:
        hidden = keras.layers.Conv2D(4, 3, padding="same")(inputs)
        return keras.layers.Dense(2)(keras.layers.Flatten()(hidden))

    keras.utils.set_random_seed(0)
    size = measure_size(build, (6, 6, 1))
    inputs = keras.Input((6, 6, 1))
    after = keras.Model(inputs, build(inputs))
    keras.utils.set_random_seed(0)
    inputs = keras.Input((6, 6, 1))
    alone = keras.Model(inputs, build(inputs))

    assert NetworkSize(alone.count_params(), 36 + 36 * 4 + 36 * 4 + 2) == size
    # Nothing that the network is made of depends on having been measured.
    assert all((one == two).all() for one, two in zip(alone.get_weights(), after.get_weights(), strict=True))


def test_attention_counts_its_weights_between_steps() -> None:
    size = measure_size(lambda rows: keras.layers.MultiHeadAttention(2, 4)(rows, rows), (50, 8))

    assert 50 * 8 * 2 + 2 * 50 * 50 * 2 == size.activations


def test_fault_of_a_network_that_cannot_be_built_comes_through() -> None:
    with pytest.raises(ValueError, match="broken"):
        measure_size(broken, (3,))


def broken(_: Any) -> Any:
    raise ValueError("broken")


def test_bytes_grow_with_weights_optimizer_and_batch() -> None:
    size = NetworkSize(parameters=1000, activations=50)

    assert 4 * (5 * 1000 + 2 * 50 * 32) == size.fit_bytes("adam", 32)
    assert size.fit_bytes("sgd", 32) < size.fit_bytes("adam", 32) < size.fit_bytes("adam", 64)


def test_what_is_free_is_the_least_of_machine_and_control_group(tmp_path: Path) -> None:
    (tmp_path / "meminfo").write_text("MemTotal: 900 kB\nMemAvailable: 500 kB\n")
    (tmp_path / "memory.max").write_text("400000\n")
    (tmp_path / "memory.current").write_text("150000\n")
    (tmp_path / "memory.stat").write_text("anon 90000\ninactive_file 50000\n")

    assert 300_000 == available_bytes(tmp_path / "meminfo", [tmp_path / "none", tmp_path])
    assert 300_000 == available_bytes(tmp_path / "none", [tmp_path])
    (tmp_path / "memory.max").write_text("max\n")
    assert 512_000 == available_bytes(tmp_path / "meminfo", [tmp_path])
    assert available_bytes(tmp_path / "none", [tmp_path]) is None
    (tmp_path / "memory.limit_in_bytes").write_text("400000\n")
    (tmp_path / "memory.usage_in_bytes").write_text("150000\n")
    (tmp_path / "memory.stat").write_text("inactive_file 0\ntotal_inactive_file 50000\n")
    assert 300_000 == available_bytes(tmp_path / "meminfo", [tmp_path])


def test_where_nobody_says_how_much_there_is_nothing_is_refused() -> None:
    check_memory(10**18, None, parameters=1, batch_size=1)


def test_memory_held_at_most_is_that_of_this_process() -> None:
    assert (resident_peak_bytes() or 0) > 10_000_000
    assert resident_peak_bytes(Path("/none")) is None


def test_network_that_needs_more_memory_than_there_is_is_refused_before_it_is_made() -> None:
    spec = parse_spec(
        {
            "model": "m",
            "dataset": {"builtin": "digits"},
            "architecture": {"type": "cnn", "layers": [4096]},
            "training": {"batch_size": 1_000_000},
        }
    )
    dataset = load_builtin("digits")

    with pytest.raises(NotEnoughMemory) as raised:
        fit(spec, dataset, split_dataset(dataset, test=0.2, validation=0.2))

    assert raised.value.needed_bytes > raised.value.available_bytes
    assert "parameters, batches of 1000000), and" in str(raised.value)
    assert str(raised.value).endswith("lower architecture.layers, training.batch_size, or the size of images.")


def test_mixed_precision_without_a_gpu_is_refused() -> None:
    spec = parse_spec({"model": "m", "dataset": {"builtin": "iris"}, "training": {"mixed_precision": True}})
    dataset = load_builtin("iris")
    if tf.config.list_physical_devices("GPU"):
        pytest.skip("there is a GPU")

    with pytest.raises(NoGpu, match=r"set training\.mixed_precision to false"):
        fit(spec, dataset, split_dataset(dataset, test=0.2, validation=0.2))
