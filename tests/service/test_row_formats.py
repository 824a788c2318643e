"""Bodies that are not JSON, read without a server."""

from __future__ import annotations

import base64
import csv
import io
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from time import process_time
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pytest
from numpy.typing import NDArray
from PIL import Image

from models.errors import InvalidRows
from models.rows import decode_rows
from models.signature import Feature, Signature
from models.sources.pictures import resized_pixels
from service.errors import InvalidRequest, NotReadable
from service.formats.arrow import read_arrow
from service.formats.delimited import read_csv
from service.formats.npy import read_npy
from service.formats.pictures import MAX_REQUEST_PIXELS, decoded_rows, read_picture
from service.formats.requests import BodyRows, fields_of_query, rows_of_body
from service.schemas import ExplainRequest, PredictRequest

WHOLE_SCALE = (0.0, 16.0)


def signature_of(*features: Feature) -> Signature:
    return Signature(features, "regression", "price", ignored=("id",))


HOUSES = signature_of(
    Feature("rooms", "numeric", (), (0, 9), nullable=True),
    Feature("garden", "boolean", (), (0, 1), nullable=True),
    Feature("city", "categorical", (), (0, 1), vocabulary=("Bern", "Rom, neu"), nullable=True),
    Feature("built", "date", (), (0, 1), nullable=True),
)


def image_signature(height: int, width: int, channels: int) -> Signature:
    return signature_of(Feature("image", "image", (height, width, channels), WHOLE_SCALE))


def stream(table: pa.Table, compression: str | None = None) -> bytes:
    file = io.BytesIO()
    with pa.ipc.new_stream(file, table.schema, options=pa.ipc.IpcWriteOptions(compression=compression)) as writer:
        writer.write_table(table)
    return file.getvalue()


def npy(array: NDArray[Any]) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


# -- CSV --------------------------------------------------------------------------------------------------------------


def test_cells_of_csv_become_what_their_features_are_and_empty_ones_null() -> None:
    body = '\ufeffcity,rooms,garden,built,price\r\n"Rom, neu",4.5,TRUE,2001-05-06,3\r\n,,,,\r\n'.encode()

    rows = read_csv(body, 10).read_as(HOUSES)

    assert [
        {"city": "Rom, neu", "rooms": 4.5, "garden": True, "built": "2001-05-06", "price": "3"},
        dict.fromkeys(("city", "rooms", "garden", "built", "price")),
    ] == rows
    assert (2, 4) == decode_rows(rows, HOUSES).shape


def test_faults_of_csv_are_named_by_row_and_column() -> None:
    body = b"rooms,garden,city,built\n4,true,Bern,2001-05-06\nmany,yes,Paris,1e9\n1e999,true,Bern,2001-05-06\n"
    rows = read_csv(body, 10).read_as(HOUSES)

    with pytest.raises(InvalidRows) as raised:
        decode_rows(rows, HOUSES)

    expected = ["#/inputs/1/rooms", "#/inputs/1/garden", "#/inputs/1/city", "#/inputs/1/built", "#/inputs/2/rooms"]
    assert expected == [fault.pointer for fault in raised.value.faults]


def test_a_header_that_does_not_fit_is_said_once() -> None:
    body = b"rooms,garden,towns,built\n" + b"4,true,Bern,2001-05-06\n" * 5

    with pytest.raises(InvalidRows) as raised:
        read_csv(body, 10).read_as(HOUSES)

    assert ["#/inputs/header/city", "#/inputs/header/towns"] == [fault.pointer for fault in raised.value.faults]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "empty"),
        (b"rooms,garden\n", "no rows"),
        (b"rooms,rooms\n1,2\n", "'rooms' twice"),
        (b"rooms,garden\n1,true\n1\n", "Line 3 of the CSV has 1 cells: its header has 2"),
        (b"rooms\n\xff\n", "not UTF-8"),
        (b'rooms\n"1"2\n', "Line 2"),
        (b"rooms\n" + b"1" * 1_000_001, "Line 2"),
    ],
    ids=lambda value: value[:30] if isinstance(value, str) else "",
)
def test_what_is_no_csv_is_said_by_line(body: bytes, words: str) -> None:
    with pytest.raises(NotReadable, match=words):
        read_csv(body, 10)


def test_a_cell_may_be_as_long_as_in_data_that_are_trained_on() -> None:
    csv.field_size_limit(100)

    assert 1 == len(read_csv(b"rooms\n" + b"1" * 1_000_000, 10))


def test_no_more_lines_are_read_than_there_may_be_and_one() -> None:
    body = b"rooms\n" + b"1\n" * 1000 + b'"'

    assert 11 == len(read_csv(body, 10))


# -- NPY --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["<f4", ">f8", "<i2", "|u1", "<f2"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_an_npy_body_is_the_array_that_was_saved(dtype: str, order: Any) -> None:
    array = np.asarray(np.arange(24).reshape(3, 8), dtype, order=order)

    read = read_npy(npy(array), 10).read_as(signature_of(*[Feature(f"x{i}", "numeric", (), (0, 1)) for i in range(8)]))

    np.testing.assert_array_equal(array, read)


def test_the_axis_of_one_channel_may_be_left_out() -> None:
    read = read_npy(npy(np.zeros((2, 8, 8), np.float32)), 10)

    assert (2, 8, 8, 1) == read.read_as(image_signature(8, 8, 1)).shape


def header(shape: str, descr: str = "'<f8'") -> bytes:
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}}}\n".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


@pytest.mark.parametrize("seed", range(5))
def test_a_damaged_array_is_refused_or_read_and_never_worse(seed: int) -> None:
    whole = npy(np.arange(10.0).reshape(1, 10))
    rng = np.random.default_rng(seed)

    for _ in range(200):
        damaged = bytearray(whole)
        for place in rng.integers(0, 128, 4):
            damaged[place] = rng.integers(256)
        try:
            read_npy(bytes(damaged), 10)
        except NotReadable:
            continue


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (header("(" * 4000), "its header"),
        (b"", "its header"),
        (b"junk", "its header"),
        (npy(np.array([None])), "numbers is expected"),
        (npy(np.array(["a"])), "numbers is expected"),
        (npy(np.zeros((2, 3)))[:-1], "has 48 bytes. Received: 47"),
        (npy(np.zeros((2, 3))) + b"x", "Received: 49"),
        (npy(np.zeros(())), "a row at least"),
        (npy(np.zeros((0, 3))), "a row at least"),
        (header("(1000000000, 1000000000)"), "has 8,000,000,000,000,000,000 bytes"),
        (header("(10**9,)"), "its header"),
        (header("(-1, 3)"), "NPY array"),
        (header("(36893488147419103232, 0)"), "a row at least"),
        (header("(4294967296, 4294967296, 0)"), "a row at least"),
        (header("(-1, -8)") + bytes(64), "a row at least"),
        (header("(True, 8)") + bytes(64), "a row at least"),
        (header(f"({'1, ' * 65})") + bytes(8), "a row at least"),
        (header("(1,)", "'|O'"), "numbers is expected"),
        (b"\x93NUMPY\x09\x00", "NPY version 9.0"),
    ],
)
def test_what_is_no_whole_array_of_numbers_is_refused_before_it_is_made(body: bytes, words: str) -> None:
    with pytest.raises(NotReadable, match=words):
        read_npy(body, 10)


# -- Arrow ------------------------------------------------------------------------------------------------------------


def test_columns_of_arrow_become_rows_by_name() -> None:
    table = pa.table(
        {
            "rooms": pa.array([4, None], pa.int8()),
            "garden": pa.array([True, None]),
            "city": pa.array(["Bern", None]).dictionary_encode(),
            "built": pa.array(["2001-05-06", None]).cast(pa.date32()),
        }
    )

    rows = read_arrow(stream(table), 10).read_as(HOUSES)

    assert [
        {"rooms": 4, "garden": True, "city": "Bern", "built": "2001-05-06"},
        {"rooms": None, "garden": None, "city": None, "built": None},
    ] == rows
    assert (2, 4) == decode_rows(rows, HOUSES).shape


@pytest.mark.parametrize("nest", ["flat", "nested", "fixed"])
def test_an_image_is_a_column_of_lists(nest: str) -> None:
    pixels = np.arange(2 * 4 * 3, dtype=np.float32).reshape(2, 4, 3, 1)
    flat = [row.ravel().tolist() for row in pixels]
    column = {
        "flat": lambda: pa.array(flat),
        "nested": lambda: pa.array([row[..., 0].tolist() for row in pixels]),
        "fixed": lambda: pa.array(flat, pa.list_(pa.float32(), 12)),
    }[nest]()

    read = read_arrow(stream(pa.table({"image": column})), 10).read_as(image_signature(4, 3, 1))

    np.testing.assert_array_equal(pixels, read)


@pytest.mark.parametrize(
    ("columns", "received"),
    [
        ({"image": [[1, 2, 3, 4, 5], [6, 7, 8]]}, "lists of different lengths"),
        ({"image": [[[1, 2], [3, 4]], [[1], [2, 3, 4]]]}, "2 x lists of different lengths"),
        ({"image": [[[1], [2], [3], [4]]]}, "4 x 1"),
        ({"image": [[1, 2, 3]]}, "3"),
        ({"image": [3]}, "int64"),
        ({"picture": [[1, 2, 3, 4]]}, "picture"),
        ({"image": [[1, 2, 3, 4]], "size": [4]}, "a column"),
    ],
)
def test_lists_that_are_no_images_are_refused(columns: dict[str, Any], received: str) -> None:
    """Lists of different lengths gave a row the pixels of the next one, where all had as many as there should be."""
    with pytest.raises(InvalidRows) as raised:
        read_arrow(stream(pa.table(columns)), 10).read_as(image_signature(2, 2, 1))

    assert [received] == [fault.received for fault in raised.value.faults]


def test_the_target_may_stand_beside_an_image_and_a_missing_pixel_is_nan() -> None:
    table = pa.table({"image": [[1.0, None, 3.0, 4.0]], "price": [7]})

    read = read_arrow(stream(table), 10).read_as(image_signature(2, 2, 1))

    np.testing.assert_array_equal([1.0, np.nan, 3.0, 4.0], np.ravel(read))


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_times_of_arrow_are_written_as_dates_are(unit: str) -> None:
    table = pa.table({"built": pa.array(["2001-05-06T07:08:09Z", None]).cast(pa.timestamp(unit, "Europe/Rome"))})

    rows = read_arrow(stream(table), 10).read_as(HOUSES)

    assert [{"built": "2001-05-06T09:08:09+02:00"}, {"built": None}] == rows


@pytest.mark.parametrize(
    "column",
    [
        pa.array([10**9], pa.int32()).cast(pa.date32()),
        pa.array([2**62], pa.timestamp("s")),
        pa.array([2**62], pa.timestamp("us")),
        pa.array([0], pa.timestamp("us", "Nowhere/Near")),
    ],
)
def test_times_that_no_date_can_be_are_refused(column: pa.Array) -> None:
    """They were a 500."""
    with pytest.raises(InvalidRows) as raised:
        read_arrow(stream(pa.table({"built": column})), 10).read_as(HOUSES)

    assert ["#/inputs/built"] == [fault.pointer for fault in raised.value.faults]


def test_no_body_of_arrow_imports_pandas(tmp_path: Path) -> None:
    """It takes half a second and 40 MiB, in a server that answers others meanwhile."""
    columns = {"image": [[1.0, None, 3.0, 4.0]], "built": pa.array([1], pa.timestamp("ns"))}
    for name, column in columns.items():
        (tmp_path / name).write_bytes(stream(pa.table({name: column})))
    script = (
        "import sys; from pathlib import Path\n"
        "from models.signature import Feature, Signature\n"
        "from service.formats.arrow import read_arrow\n"
        "for feature in Feature('image', 'image', (2, 2, 1), (0, 16)), Feature('built', 'date', (), (0, 1)):\n"
        "    read = read_arrow((Path(sys.argv[1]) / feature.name).read_bytes(), 10)\n"
        "    assert len(read.read_as(Signature((feature,), 'regression', 'price'))) == 1\n"
        "print('pandas' in sys.modules)\n"
    )

    ended = subprocess.run([sys.executable, "-c", script, tmp_path], capture_output=True, text=True, check=True)

    assert ended.stdout == "False\n"


@pytest.mark.parametrize(
    ("table", "words"),
    [
        (pa.table({"x": pa.array([], pa.int8())}), "no rows"),
        (pa.table({"x": [{"a": 1}]}), "struct"),
        (pa.table({"x": [b"a"]}), "binary"),
        (pa.table({"x": pa.array(["a"], pa.string_view())}), "string_view"),
        (pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["x", "x"]), "'x' twice"),
    ],
)
def test_tables_that_hold_no_rows_of_ours_are_refused(table: pa.Table, words: str) -> None:
    with pytest.raises(NotReadable, match=words):
        read_arrow(stream(table), 10)


def test_a_schema_of_very_many_columns_is_read_in_time() -> None:
    """2,000 of them took a second, and twice as many four times as long."""
    table = pa.Table.from_arrays([pa.array([1.0])] * 20_000, names=[f"c{i}" for i in range(20_000)])
    started = process_time()

    assert len(read_arrow(stream(table), 10)) == 1
    assert process_time() - started < 2


@pytest.mark.parametrize("compression", ["lz4", "zstd"])
@pytest.mark.parametrize("values", [pa.array([1.0] * 1000), pa.array(["a"] * 1000).dictionary_encode()])
def test_compressed_buffers_are_refused_before_they_are_unpacked(compression: str, values: pa.Array) -> None:
    with pytest.raises(NotReadable, match="is compressed"):
        read_arrow(stream(pa.table({"x": values}), compression), 10_000)


def test_a_dictionary_that_would_unpack_to_too_much_is_refused() -> None:
    word = pa.DictionaryArray.from_arrays(pa.array([0] * 1000, pa.int8()), pa.array(["a" * 100_000]))

    with pytest.raises(NotReadable, match="once its dictionary is resolved"):
        read_arrow(stream(pa.table({"x": word})), 10_000)


@pytest.mark.parametrize("seed", range(5))
def test_a_damaged_stream_is_refused_or_read_and_never_worse(seed: int) -> None:
    table = pa.table({"rooms": [1.0, 2.0], "city": ["Bern", "Rom"], "l": [[1], [2, 3]]})
    whole = bytearray(stream(table))
    rng = np.random.default_rng(seed)

    for _ in range(200):
        damaged = whole.copy()
        for place in rng.integers(0, len(whole), 3):
            damaged[place] = rng.integers(256)
        try:
            read_arrow(bytes(damaged[: rng.integers(1, len(whole) + 1)]), 10).read_as(HOUSES)
        except (NotReadable, InvalidRows):
            continue


# -- images -----------------------------------------------------------------------------------------------------------


def test_an_image_of_the_signature_s_size_is_mapped_linearly_to_its_units() -> None:
    pixels = np.arange(64, dtype=np.uint8).reshape(8, 8) * 4

    read = read_picture(encoded(Image.fromarray(pixels)), 10).read_as(image_signature(8, 8, 1))

    np.testing.assert_allclose(read[0, ..., 0], pixels / 255 * 16, atol=1e-6)


def test_an_image_is_turned_as_its_exif_says() -> None:
    pixels = np.zeros((4, 6, 3), np.uint8)
    pixels[0, 0] = 255  # the upper left corner is to be the upper right one
    exif = Image.Exif()
    exif[0x0112] = 6

    read = read_picture(encoded(Image.fromarray(pixels), exif=exif), 10).read_as(image_signature(6, 4, 3))

    assert 16.0 == read[0, 0, 3, 0]
    assert 16.0 * 3 == read.sum()


def test_an_image_is_turned_whatever_else_its_exif_holds() -> None:
    """A text in place of a number was a 500: Pillow writes all tags again to leave out the turn."""
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "a text"
    grid = np.arange(64, dtype=np.uint8).reshape(8, 8) * 3
    body = encoded(Image.fromarray(grid), exif=exif)
    chunk = body.index(b"eXIf")
    damaged = body[chunk : body.index(b"IDAT") - 8].replace(b"\x01\x0e\x00\x02", b"\x01\x0a\x00\x02")
    body = body[:chunk] + damaged + struct.pack(">I", zlib.crc32(damaged)) + body[body.index(b"IDAT") - 4 :]

    rows = read_picture(body, 10).read_as(image_signature(8, 8, 1))

    np.testing.assert_allclose(rows[0, ..., 0], np.rot90(grid, -1) * np.float32(16 / 255), rtol=1e-6)


def test_a_smaller_size_is_the_mean_of_what_was_there() -> None:
    stripes = np.tile(np.array([0, 255], np.uint8), (64, 32))

    read = read_picture(encoded(Image.fromarray(stripes)), 10).read_as(image_signature(4, 4, 1))

    # Every second column is black: without antialiasing all of one kind would be left.
    np.testing.assert_allclose(read, 8, atol=1.0)


def test_an_image_is_resized_as_for_training() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (37, 53, 3), np.uint8)

    read = read_picture(encoded(Image.fromarray(pixels)), 10).read_as(image_signature(16, 24, 3))

    np.testing.assert_allclose(resized_pixels(pixels.astype(np.float32), (16, 24)) / 255 * 16, read[0], atol=1e-5)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_every_8_bit_mode_is_converted(mode: str, channels: int) -> None:
    image = Image.new("RGB", (5, 4), (255, 255, 255)).convert(mode)
    kind = "JPEG" if mode == "CMYK" else "PNG"

    read = read_picture(encoded(image, kind), 10).read_as(image_signature(4, 5, channels))

    np.testing.assert_allclose(read, np.full((1, 4, 5, channels), 16.0), atol=0.2)


def bomb(width: int, height: int, depth: int = 8, colours: int = 0) -> bytes:
    """A PNG whose head says more pixels than it has."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colours, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "0 bytes that are none"),
        (b"GIF89a", "6 bytes that are none"),
        (encoded(Image.new("L", (8, 8)), "BMP"), "that are none"),
        (encoded(Image.new("L", (300, 300)))[:-60], "breaks off"),
        (encoded(Image.fromarray(np.zeros((8, 8), np.uint16))), "one of more"),
        (bomb(8, 8, depth=16, colours=2), "one of more"),
        (bomb(8, 8, depth=16, colours=4), "one of more"),
        (bomb(8, 8, depth=16, colours=6), "one of more"),
        (bomb(5000, 5000), "5000 x 5000|more"),
        (bomb(2**31 - 1, 2**31 - 1), "more|none"),
    ],
)
def test_what_is_no_usable_image_is_refused_before_it_is_decoded(body: bytes, words: str) -> None:
    with pytest.raises(InvalidRows) as raised:
        read_picture(body, 10).read_as(image_signature(8, 8, 1))

    (fault,) = raised.value.faults
    assert any(word in fault.received for word in words.split("|"))


def b64(data: bytes) -> dict[str, str]:
    return {"b64": base64.b64encode(data).decode()}


def test_a_jpeg_of_many_scans_is_refused_before_it_is_decoded() -> None:
    """Each is a pass over all pixels: 20 more of 56 bytes took a second each on 4096 x 4096."""
    body = encoded(Image.new("L", (64, 64)), "JPEG", progressive=True)
    scan = body[body.rfind(b"\xff\xc4", 0, body.rfind(b"\xff\xda")) : -2]
    assert read_picture(body, 10).read_as(image_signature(8, 8, 1)).shape == (1, 8, 8, 1)

    with pytest.raises(InvalidRows) as raised:
        read_picture(body[:-2] + scan * 30 + body[-2:], 10).read_as(image_signature(8, 8, 1))

    assert "more than 32 scans" in raised.value.faults[0].received


def test_what_looks_like_scans_within_a_jpeg_s_other_segments_is_not_counted() -> None:
    comment = b"\xff\xfe" + (2 + 400).to_bytes(2) + b"\xff\xda" * 200
    body = encoded(Image.new("RGB", (20, 20)), "JPEG", progressive=True)

    rows = read_picture(body[:2] + comment + body[2:], 10).read_as(image_signature(8, 8, 3))

    assert rows.shape == (1, 8, 8, 3)


@pytest.mark.parametrize(
    "body",
    [
        encoded(Image.new("L", (8, 8)))[:33] + b"\0\0\0\0aaaa\0\0\0\0" * 20_000 + encoded(Image.new("L", (8, 8)))[33:],
        b"\xff\xd8" + b"\xff\xfe\0\x02" * 20_000 + encoded(Image.new("L", (8, 8)), "JPEG")[2:],
    ],
    ids=["PNG", "JPEG"],
)
def test_an_image_of_many_parts_is_refused_before_it_is_read(body: bytes) -> None:
    with pytest.raises(InvalidRows) as raised:
        read_picture(body, 10).read_as(image_signature(8, 8, 1))

    assert "more than 10,000" in raised.value.faults[0].received


def test_encoded_images_may_stand_among_rows_of_numbers() -> None:
    signature = image_signature(2, 2, 1)
    white = encoded(Image.new("L", (2, 2), 255))

    mixed = decoded_rows([b64(white), {"image": b64(white)}, [[1, 2], [3, 4]]], signature)
    alone = decoded_rows([b64(white), {"image": b64(white)}], signature)

    np.testing.assert_array_equal(decode_rows(mixed, signature)[:, 0, 0, 0], [16, 16, 1])
    np.testing.assert_array_equal(alone, np.full((2, 2, 2, 1), 16))


def test_every_encoded_image_that_cannot_be_read_is_named() -> None:
    rows = [b64(b"x"), {"image": {"b64": "!"}}, {"b64": 3}, b64(encoded(Image.new("L", (2, 2))))]

    with pytest.raises(InvalidRows) as raised:
        decoded_rows(rows, image_signature(2, 2, 1))

    assert ["#/inputs/0", "#/inputs/1/image", "#/inputs/2"] == [fault.pointer for fault in raised.value.faults]


def test_all_images_of_a_request_together_have_a_bound() -> None:
    side = 4000
    rows = [b64(bomb(side, side))] * (MAX_REQUEST_PIXELS // side**2 + 1)

    with pytest.raises(InvalidRows) as raised:
        decoded_rows(rows, image_signature(2, 2, 1))

    assert f"at most {MAX_REQUEST_PIXELS:,} pixels a request" in raised.value.faults[0].expected


@pytest.mark.parametrize("read", [read_csv, read_npy, read_arrow])
def test_columns_are_no_image(read: Callable[[bytes, int], Any]) -> None:
    bodies = {
        read_csv: b"rooms\n1\n",
        read_npy: npy(np.zeros((1, 3))),
        read_arrow: stream(pa.table({"rooms": [1]})),
    }

    rows = read(bodies[read], 10)

    if read is read_npy:
        assert (1, 3) == rows.read_as(image_signature(2, 2, 1)).shape  # which check_array refuses
    else:
        with pytest.raises(InvalidRows):
            rows.read_as(image_signature(2, 2, 1))


# -- queries ----------------------------------------------------------------------------------------------------------


def test_fields_of_a_query_are_those_of_the_json_body() -> None:
    query = b"model=m&version=3&tolerance=0.5&strict=true&target=a&target=b&options=%7B%22window%22%3A3%7D&width=300"

    asked = fields_of_query(query, ExplainRequest, ("width",))

    assert ("m", 3, 0.5, True, ["a", "b"], {"window": 3}) == (
        asked.model, asked.version, asked.tolerance, asked.strict, asked.target, asked.options,
    )  # fmt: skip


def test_every_fault_of_a_query_is_named() -> None:
    with pytest.raises(InvalidRequest) as raised:
        fields_of_query(b"tolerance=x&q=1&inputs=2&options=3", ExplainRequest)

    expected = {f"query parameter {name}" for name in ("tolerance", "q", "inputs", "options", "model")}
    assert expected == {fault.pointer for fault in raised.value.faults}


@pytest.mark.parametrize("dtype", [">f8", "<f2", "<i8"])
def test_what_is_recorded_of_a_body_are_its_rows(dtype: str) -> None:
    written = BodyRows(read_csv(b"rooms,garden,city,built\n4,,Bern,\n", 10))
    array = BodyRows(read_npy(npy(np.array([[[1, 2], [3, 4]]], dtype)), 10))
    written.read_as(HOUSES)
    array.read_as(image_signature(2, 2, 1))

    as_json, as_array = (
        rows_of_body(PredictRequest(model="m", inputs=[0]).model_copy(update={"inputs": rows}))
        for rows in (written, array)
    )

    assert {"inputs": [{"rooms": 4, "garden": None, "city": "Bern", "built": None}]} == orjson.loads(as_json)
    np.testing.assert_array_equal(as_array, np.array([[[[1], [2]], [[3], [4]]]], np.float32))
    assert np.float32 == as_array.dtype
