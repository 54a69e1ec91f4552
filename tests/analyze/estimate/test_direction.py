"""Whether more of a metric is better, by its name."""

import pytest

from dlas.analyze import load_table
from dlas.analyze.estimate.direction import more_is_better
from dlas.core.errors import UserError

MORE = (
    "images_per_sec fps Throughput(img/s) qps accuracy acc@1 top-1 mAP infer_samples_per_sec "
    "Samples/Second GFLOP/s tokens_per_second steps_per_s speedup IPS hit_rate ImagesPerSecond "
    "inferences_per_joule"
)
LESS = (
    "latency_ms ms seconds time time_per_image ms/image energy_per_inference memory_mb macs "
    "accuracy_drop error_rate loss perplexity infer_step_time p99_latency seconds_per_epoch "
    "errors_per_s miss_rate trainTimeS"
)
UNKNOWN = "value result y x1 gflops"


@pytest.mark.parametrize(
    ("names", "expected"),
    [(MORE, True), (LESS, False), (UNKNOWN, None)],
    ids=["more", "less", "?"],
)
def test_a_name_tells(names, expected):
    assert {name: more_is_better(name) for name in names.split()} == dict.fromkeys(
        names.split(), expected
    )


def rows(metric):
    import pandas as pd

    return pd.DataFrame({"m": ["a", "b"], metric: [100.0, 180.0]})


def test_a_direction_is_asked_for_where_no_name_tells_it():
    with pytest.raises(UserError, match="say --minimize value or --maximize value"):
        load_table(rows("value"), layers="m", metric="value")
    assert load_table(rows("value"), layers="m", metric="value", maximize=True).maximize
    goals = {"maximize": ["value"]}
    assert load_table(rows("value"), layers="m", metric="value", goals=goals).maximize


def test_the_rule_is_said():
    table = load_table(rows("fps"), layers="m", metric="fps")
    assert table.maximize
    said = "More of fps is better, its name is that of a rate or a score"
    assert any(note.startswith(said) for note in table.notes)
    assert not load_table(rows("fps"), layers="m", metric="fps", maximize=False).maximize
