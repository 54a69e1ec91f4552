import pytest

from dlas.report.labels import short_names

PRUNE = "prune(epochs=1,sparsity={})"


def test_parameters_that_tell_nothing_apart_are_left_out():
    names = short_names(["none", PRUNE.format(0.5), PRUNE.format(0.8)])
    assert names == {
        "none": "none",
        PRUNE.format(0.5): "prune(sparsity=0.5)",
        PRUNE.format(0.8): "prune(sparsity=0.8)",
    }
    assert short_names(["none", PRUNE.format(0.5)])[PRUNE.format(0.5)] == "prune"


def test_a_parameter_that_one_choice_lacks_is_kept():
    assert short_names(["cpu", "cpu(threads=2)"]) == {
        "cpu": "cpu",
        "cpu(threads=2)": "cpu(threads=2)",
    }


def test_pipelines_are_shortened_step_by_step():
    names = short_names(["narrow(ratio=0.5)+int8", "narrow(ratio=0.5)", "int8"])
    assert list(names.values()) == ["narrow+int8", "narrow", "int8"]


@pytest.mark.parametrize("text", ["a(b(c))", "a)b(", "", "timm(name=x,weights=p(q)r)"])
def test_text_of_another_form_stays_whole(text):
    assert short_names([text]) == {text: text}
