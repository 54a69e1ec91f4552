from dlas.core.labels import short_names
from dlas.core.stack import Choice


def prune(sparsity: float) -> Choice:
    return Choice("prune", {"epochs": 1, "sparsity": sparsity}, ("epochs", "sparsity"))


def named(*pipelines: tuple[Choice, ...]) -> list[str]:
    choices = {"+".join(c.text for c in steps): steps for steps in pipelines}
    names = short_names(choices, choices)
    assert list(names) == list(choices)
    return list(names.values())


NONE, INT8 = Choice("none"), Choice("int8")


def test_parameters_that_tell_nothing_apart_are_left_out():
    assert named((NONE,), (prune(0.5),), (prune(0.8),)) == [
        "none",
        "prune(sparsity=0.5)",
        "prune(sparsity=0.8)",
    ]
    assert named((NONE,), (prune(0.5),)) == ["none", "prune"]


def test_a_parameter_that_one_choice_lacks_is_kept():
    two = Choice("cpu", {"threads": 2}, ("threads",))
    assert named((Choice("cpu", {"threads": 1}),), (two,)) == ["cpu", "cpu(threads=2)"]


def test_pipelines_are_shortened_step_by_step():
    narrow = Choice("narrow", {"ratio": 0.5}, ("ratio",))
    assert named((narrow, INT8), (narrow,), (INT8,)) == ["narrow+int8", "narrow", "int8"]


def test_values_with_brackets_and_commas_are_no_trouble():
    first = Choice("timm", {"name": "x", "weights": "p(q),r"}, ("name", "weights"))
    other = Choice("timm", {"name": "y", "weights": "p(q),r"}, ("name", "weights"))
    assert named((first,), (other,)) == ["timm(name=x)", "timm(name=y)"]


def test_a_level_that_nothing_is_known_of_stays_whole():
    assert short_names(["a(b=1)"], {}) == {"a(b=1)": "a(b=1)"}


def test_the_default_of_what_alone_varies_is_told_on_request():
    levels = {f"cpu{n}": [Choice("cpu", {"threads": n}, ("threads",) * (n > 1))] for n in (1, 2)}
    assert list(short_names(levels, levels).values()) == ["cpu", "cpu(threads=2)"]
    assert list(short_names(levels, levels, defaults=True).values()) == [
        "cpu(threads=1)",
        "cpu(threads=2)",
    ]
    tuned = Choice("tvm", {"tuning": "template", "trials": 8}, ("trials", "tuning"))
    plain = Choice("tvm", {"tuning": "none", "trials": 32})
    both = {"tvm": [plain], tuned.text: [tuned], "none": [Choice("none")]}
    assert list(short_names(both, both, defaults=True)) == list(both)
    assert short_names(both, both, defaults=True)["tvm"] == "tvm"
    assert list(short_names(["tvm"], both, defaults=True).values()) == ["tvm"]
