"""Strategies: rows, pairs and images like the data's own, and what they shrink to."""

import datetime
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, find, given, settings
from hypothesis import strategies as st

from fairguard.errors import ConfigError, DataError
from fairguard.strategies import ChangedImage, Schema, counterfactual_pairs, images, rows

QUICK = settings(max_examples=100, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow])
SEARCH = settings(max_examples=2_000, deadline=None, database=None)


def people(n: int = 200) -> pd.DataFrame:
    """Rows of every kind of column; income follows age, so that some combinations never occur."""
    rng = np.random.default_rng(0)
    age = rng.integers(18, 80, n)
    return pd.DataFrame(
        {
            "sex": rng.choice(["F", "M"], n),
            "age": age,
            "income": age * 100.0 + rng.normal(0, 5, n).round(2),
            "member": rng.random(n) < 0.5,
            "city": pd.Categorical(rng.choice(["Oslo", "Rome"], n), ["Oslo", "Rome", "Lima"]),
            "since": [datetime.date(2000, 1, 1) + datetime.timedelta(int(day)) for day in rng.integers(0, 9_000, n)],
            "note": rng.choice([None, "a", "b"], n),
            "hired": rng.integers(0, 2, n),
        }
    )


def keep(frame: pd.DataFrame) -> np.ndarray:
    """A transform that needs the categories' dtype and the column of text."""
    return np.column_stack([frame["sex"] == "F", frame["age"], pd.get_dummies(frame["city"])]).astype(np.float32)


@pytest.fixture(scope="module")
def schema() -> Schema:
    return Schema.of(people(), label="hired", transform=keep)


@pytest.fixture(scope="module")
def real(schema: Schema) -> list[dict[str, Any]]:
    return schema.table.to_pylist()


def changes(row: dict[str, Any], real: list[dict[str, Any]]) -> int:
    """In how many columns a row differs from the nearest real one."""
    return min(sum(row[name] != other[name] for name in row) for other in real)


def test_every_value_is_one_that_the_column_holds(schema: Schema, real: list[dict[str, Any]]) -> None:
    held = {name: {row[name] for row in real} for name in schema.inputs}

    @QUICK
    @given(rows(schema))
    def run(row: dict[str, Any]) -> None:
        assert set(row) == set(held)
        for name, value in row.items():
            assert value in held[name]
            assert any(type(value) is type(other) for other in held[name])

    run()


def test_a_row_is_a_real_one_with_a_few_columns_changed(schema: Schema, real: list[dict[str, Any]]) -> None:
    seen = set()

    @QUICK
    @given(rows(schema, max_changed=2))
    def run(row: dict[str, Any]) -> None:
        seen.add(changes(row, real))

    run()
    assert seen == {0, 1, 2}


def test_the_label_stays_that_of_the_real_row(schema: Schema) -> None:
    assert "hired" in schema.inputs
    assert "hired" not in schema.columns


def test_shrinks_to_a_real_row(schema: Schema, real: list[dict[str, Any]]) -> None:
    found = find(rows(schema), lambda row: row["age"] > 40, settings=SEARCH)
    assert changes(found, real) == 0


def odd(row: dict[str, Any]) -> bool:
    """What no real row is: half of them need one column changed for it, the others two."""
    return row["age"] < 30 and row["income"] > 5_000


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("first", ["needs one change", "needs two"])
def test_shrinks_to_one_changed_column_where_no_real_row_will_do(first: str, seed: int) -> None:
    """Also where the row that rows shrink toward, the first of all, would need two."""
    frame = people()
    two = frame["age"].between(30, 49)
    at_front = two if first == "needs two" else ~two
    schema = Schema.of(pd.concat([frame[at_front], frame[~at_front]]), label="hired", transform=keep)
    real = schema.table.to_pylist()
    assert not any(map(odd, real))
    found = find(rows(schema), odd, settings=SEARCH, random=Random(seed))
    assert changes(found, real) == 1


def test_a_changed_value_shrinks_toward_the_real_rows_own(schema: Schema, real: list[dict[str, Any]]) -> None:
    found = find(rows(schema), odd, settings=SEARCH)
    enough = min(row["income"] for row in real if row["income"] > 5_000)
    oldest = max(row["age"] for row in real if row["age"] < 30)
    assert found["income"] == enough or found["age"] == oldest


def test_the_model_is_fed_through_the_transform(schema: Schema, real: list[dict[str, Any]]) -> None:
    np.testing.assert_array_equal(schema.features(real), keep(people()))
    assert schema.features(real[:1]).shape == (1, 5), "one row, and still a column for every category"


def test_a_transform_is_fed_with_the_features_that_are_named() -> None:
    named = Schema.of(people(), label="hired", features=["sex", "age", "city"], transform=keep)
    assert named.inputs == ("sex", "age", "city")
    row = named.table.select(list(named.inputs)).slice(0, 1).to_pylist()
    np.testing.assert_array_equal(named.features(row), keep(people()[["sex", "age", "city"]])[:1])


def test_without_a_transform_rows_have_the_features_alone() -> None:
    schema = Schema.of(people(), label="hired", features=["income", "age"])
    row = schema.table.to_pylist()[3]
    assert schema.inputs == ("income", "age")
    np.testing.assert_array_equal(schema.features([row]), np.array([[row["income"], row["age"]]], dtype=np.float32))


def test_rows_come_from_files_too(tmp_path: Path) -> None:
    people().drop(columns="city").to_csv(tmp_path / "people.csv", index=False)
    people().to_parquet(tmp_path / "people.parquet")
    for name in ("people.csv", "people.parquet"):
        row = find(rows(tmp_path / name, label="hired", features=["age"]), lambda row: row["age"] > 40)
        assert row["age"] in set(people()["age"])


def test_strategies_compose() -> None:
    ages = st.lists(rows(people(), features=["age"]).map(lambda row: row["age"]), min_size=3, max_size=5)
    found = find(ages, lambda them: sum(them) > 150, settings=SEARCH)
    assert len(found) == 3


def test_nothing_is_read_before_an_example_is_drawn(tmp_path: Path) -> None:
    strategy = rows(tmp_path / "later.parquet", features=["age"])
    with pytest.raises(DataError, match=r"there is no file .*later\.parquet"):
        find(strategy, lambda row: True)
    people().to_parquet(tmp_path / "later.parquet")
    assert find(strategy, lambda row: True)["age"] >= 18


def test_a_pair_differs_in_the_group_and_nothing_else(schema: Schema) -> None:
    groups = set()

    @QUICK
    @given(counterfactual_pairs(schema, swap="sex"))
    def run(pair: tuple[dict[str, Any], dict[str, Any]]) -> None:
        first, second = pair
        groups.add((first["sex"], second["sex"]))
        assert {name for name in first if first[name] != second[name]} == {"sex"}

    run()
    assert groups == {("F", "M"), ("M", "F")}


def test_a_pair_shrinks_to_a_real_row_and_its_counterpart(schema: Schema, real: list[dict[str, Any]]) -> None:
    strategy = counterfactual_pairs(schema, swap="sex")
    first, second = find(strategy, lambda pair: pair[0]["sex"] == "F" and pair[1]["age"] > 40, settings=SEARCH)
    assert first in real
    assert second == {**first, "sex": "M"}


def test_a_missing_value_is_no_counterpart(schema: Schema) -> None:
    assert schema.swapped("note").present == 2
    found = set()

    @QUICK
    @given(counterfactual_pairs(schema, swap="note"))
    def run(pair: tuple[dict[str, Any], dict[str, Any]]) -> None:
        found.add(pair[1]["note"])

    run()
    assert found == {"a", "b"}


@pytest.mark.parametrize(
    ("options", "swap", "message"),
    [
        ({"features": ["age", "income"], "groups": ["sex"]}, "sex", "'sex' is not among the features .age, income."),
        ({"features": ["age", "income"]}, "incme", "Did you mean 'income'?"),
        ({"features": ["age"], "label": "hired"}, "hired", "'hired' is the label"),
        ({"transform": keep, "id": "since"}, "since", "not among the features"),
    ],
)
def test_a_swap_that_cannot_reach_the_model(options: dict[str, Any], swap: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        find(counterfactual_pairs(people(), swap=swap, **options), lambda pair: True)


def test_a_swap_without_another_value() -> None:
    with pytest.raises(DataError, match="'age' has one value in all rows"):
        Schema.of(people().assign(age=3), features=["age", "income"]).swapped("age")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (None, "no rows to start from; name a file of them with --data"),
        (np.zeros((3, 2)), "a ndarray has no named columns"),
        (people(0), "the table has no rows"),
        ("nowhere.csv", "there is no file nowhere.csv"),
    ],
)
def test_data_that_no_row_can_be_made_after(data: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        Schema.of(data, features=None if data is None else ["age"])


def test_the_first_rows_of_a_large_file_serve_as_patterns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    people().to_parquet(tmp_path / "people.parquet", row_group_size=60)
    monkeypatch.setattr("fairguard.schema.MAX_ROWS", 100)
    schema = Schema.of(tmp_path / "people.parquet", features=["age"])
    assert schema.table.column("age").to_pylist() == people()["age"].to_list()[:100]


def test_rows_may_come_from_the_users_own_code(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "import pandas as pd\n\n\ndef good():\n    return pd.DataFrame({'age': [1, 2]})\n"
    )
    assert len(Schema.of(f"{tmp_path}/mine.py:good")) == 2
    (tmp_path / "broken.py").write_text("def bad():\n    return 1 / 0\n")
    with pytest.raises(DataError, match="ZeroDivisionError"):
        Schema.of(f"{tmp_path}/broken.py:bad")


def test_arrays_without_names_are_no_table(tmp_path: Path) -> None:
    np.savez(tmp_path / "rows.npz", X=np.zeros((3, 2)), y=np.zeros(3))
    with pytest.raises(DataError, match=r"rows\.npz has no named columns"):
        Schema.of(tmp_path / "rows.npz")


def test_options_belong_to_the_schema(schema: Schema) -> None:
    with pytest.raises(ConfigError, match=r"give features to Schema\.of"):
        rows(schema, features=["age"])


def test_a_row_without_a_column_is_named(schema: Schema) -> None:
    with pytest.raises(DataError, match="a row has no 'age'"):
        schema.features([{"sex": "F"}])


PICTURES = np.random.default_rng(0).integers(30, 220, (7, 12, 10, 3)).astype(np.uint8)


def test_changed_images_keep_shape_type_and_range() -> None:
    floats = (PICTURES / 127.5 - 1).astype(np.float32)
    kinds = [
        (PICTURES, 0, 255),
        (floats, floats.min(), floats.max()),
        (floats[..., 0], *np.quantile(floats[..., 0], [0, 1])),
    ]

    @QUICK
    @given(st.sampled_from(kinds), st.data())
    def run(kind: tuple[np.ndarray, float, float], data: st.DataObject) -> None:
        pictures, low, high = kind
        image = data.draw(images(pictures))
        assert image.pixels.shape == pictures.shape[1:]
        assert image.pixels.dtype == pictures.dtype
        assert low <= image.pixels.min() <= image.pixels.max() <= high
        np.testing.assert_array_equal(image.original, pictures[image.row])

    run()


def test_changes_stay_within_their_bounds() -> None:
    @QUICK
    @given(images(PICTURES, max_shift=1, max_brightness=0.05, max_contrast=0.2, max_noise=0.0))
    def run(image: ChangedImage) -> None:
        assert max(abs(image.down), abs(image.right)) <= 1
        assert abs(image.brightness) <= 0.05
        assert abs(image.contrast) <= 0.2
        assert image.noise == 0
        moved = np.roll(PICTURES[image.row], (image.down, image.right), axis=(0, 1))[1:-1, 1:-1].astype(float)
        # 0.05 of 255, a fifth of the distance to the mean, and the clipping at 0 and 255 bound every inner pixel
        assert np.abs(image.pixels[1:-1, 1:-1] - moved).max() <= 0.05 * 255 + 0.2 * 255 + 1

    run()


def test_no_change_gives_the_image_itself() -> None:
    still = find(images(PICTURES), lambda image: True)
    np.testing.assert_array_equal(still.pixels, PICTURES[0])


def test_an_image_shrinks_to_the_one_change_that_matters() -> None:
    found = find(images(PICTURES), lambda image: image.down >= 2 and image.row >= 3, settings=SEARCH)
    assert found == ChangedImage(row=3, original=PICTURES[3], limits=(0, 255), channels="last", down=2), (
        "nothing but the shift is left"
    )


def test_a_shift_repeats_the_border() -> None:
    picture = np.arange(12.0).reshape(1, 3, 4)
    down = find(images(picture, max_noise=0), lambda image: image.down == 1, settings=SEARCH)
    np.testing.assert_array_equal(down.pixels, picture[0][[0, 0, 1]])


def test_channels_can_come_first() -> None:
    first = PICTURES.transpose(0, 3, 1, 2)
    wanted: Any = lambda image: image.down == 1 and image.right == -1  # noqa: E731
    a = find(images(first, channels="first"), wanted, settings=SEARCH)
    b = find(images(PICTURES), wanted, settings=SEARCH)
    np.testing.assert_array_equal(a.pixels, b.pixels.transpose(2, 0, 1))


def test_noise_is_the_same_every_time() -> None:
    image = find(images(PICTURES, max_noise=0.1), lambda image: image.noise >= 0.05, settings=SEARCH)
    assert (image.pixels != image.original).mean() > 0.5
    np.testing.assert_array_equal(image.pixels, image.pixels)


def test_an_image_prints_as_its_change() -> None:
    assert "array" not in repr(find(images(PICTURES), lambda image: image.right != 0, settings=SEARCH))


@pytest.mark.parametrize("shape", [(0, 4, 4), (4, 4), (1, 2, 3, 4, 5)])
def test_what_is_no_images(shape: tuple[int, ...]) -> None:
    with pytest.raises(DataError, match="images of shape"):
        images(np.zeros(shape))


def test_a_bound_below_zero() -> None:
    with pytest.raises(ConfigError, match="none can be negative"):
        images(PICTURES, max_shift=-1)
