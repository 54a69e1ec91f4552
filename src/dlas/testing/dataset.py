"""What every data set promises."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from dlas.core.protocols import SPLITS, DataSpec
from dlas.testing.check import Suite

if TYPE_CHECKING:
    from dlas.core.protocols import Samples, Split

LOOKED_AT = 400
"""Images of each split that are compared with those of the other."""


def _spec(suite: Suite) -> DataSpec:
    suite.needs()
    spec: DataSpec = suite.technique.spec()
    return spec


def _split(suite: Suite, split: Split) -> Samples:
    suite.needs()
    samples: Samples = suite.once(f"split {split}", lambda: suite.technique.load(split))
    return samples


def its_spec_is_a_problem(suite: Suite) -> None:
    """``spec`` gives at least two classes, positive sizes and the batch that is asked for."""
    spec = _spec(suite)
    suite.demand(isinstance(spec, DataSpec), f"spec() is a {type(spec).__name__}, not a DataSpec")
    numbers = dataclasses.asdict(spec)
    good = all(type(n) is int and n > 0 for n in numbers.values()) and spec.classes > 1
    suite.demand(good, f"the spec is {spec}")
    suite.demand(
        spec.batch == suite.technique.batch,
        f"the spec's batch is {spec.batch}, asked for was {suite.technique.batch}",
    )


def images_are_contiguous_float32_of_the_spec(suite: Suite) -> None:
    """Images are C-contiguous float32 ``(n, C, H, W)`` of the spec's sizes and finite."""
    import numpy as np

    spec = _spec(suite)
    size = (spec.channels, spec.height, spec.width)
    for split in SPLITS:
        images = _split(suite, split).images([0, 1, 0])
        suite.demand(
            isinstance(images, np.ndarray), f"{split}: images are a {type(images).__name__}"
        )
        suite.demand(
            images.shape == (3, *size),
            f"{split}: three images have the shape {images.shape}, the spec says {(3, *size)}",
        )
        suite.demand(images.dtype == np.float32, f"{split}: images are {images.dtype}")
        suite.demand(images.flags.c_contiguous, f"{split}: images are not C-contiguous")
        suite.demand(np.isfinite(images).all(), f"{split}: images hold NaN or infinite values")
        none = _split(suite, split).images([])
        suite.demand(none.shape == (0, *size), f"{split}: no image has the shape {none.shape}")


def images_are_those_asked_for(suite: Suite) -> None:
    """Each index gives its own image, in the order asked for, however often."""
    import numpy as np

    for split in SPLITS:
        samples = _split(suite, split)
        last = len(samples.labels) - 1
        some = samples.images([0, last, 1, 0])
        alone = [samples.images([i])[0] for i in (0, last, 1, 0)]
        suite.demand(
            np.array_equal(some, np.stack(alone)),
            f"{split}: images([0, {last}, 1, 0]) are not those images one by one",
        )
        suite.demand(
            not np.array_equal(some[0], some[1]) or not np.array_equal(some[0], some[2]),
            f"{split}: different indices give the same image",
        )


def images_are_copies(suite: Suite) -> None:
    """Who writes to the images that he was given changes no image of the data set."""
    import numpy as np

    for split in SPLITS:
        samples = _split(suite, split)
        given = samples.images([0, 1])
        kept = given.copy()
        if given.flags.writeable:
            given += 1
        suite.demand(
            np.array_equal(samples.images([0, 1]), kept),
            f"{split}: writing to returned images changed the data set",
        )


def labels_and_ids_fit(suite: Suite) -> None:
    """Labels are int64 class indices, one an image; ids are distinct strings, one an image."""
    import numpy as np

    classes = _spec(suite).classes
    for split in SPLITS:
        samples = _split(suite, split)
        labels = samples.labels
        suite.demand(
            isinstance(labels, np.ndarray) and labels.dtype == np.int64 and labels.ndim == 1,
            f"{split}: labels must be a 1-d int64 array, they are {labels!r:.80}",
        )
        suite.demand(len(labels) > 1, f"{split}: there are {len(labels)} images")
        span = int(labels.min()), int(labels.max())
        suite.demand(
            span[0] >= 0 and span[1] < classes,
            f"{split}: labels go from {span[0]} to {span[1]}, there are {classes} classes",
        )
        ids = list(samples.ids)
        suite.demand(
            len(ids) == len(labels) == len(set(ids)) and all(isinstance(i, str) for i in ids),
            f"{split}: {len(labels)} images have {len(ids)} ids, {len(set(ids))} of them distinct",
        )


def loading_twice_gives_the_same(suite: Suite) -> None:
    """A split loaded again has the same images, labels, ids and content hash in the same order."""
    import numpy as np

    for split in SPLITS:
        one, two = _split(suite, split), suite.technique.load(split)
        for what in ("content", "ids"):
            was, now = getattr(one, what), getattr(two, what)
            suite.demand(
                type(was) is type(now) and list(was) == list(now), f"{split}: {what} change"
            )
        suite.demand(np.array_equal(one.labels, two.labels), f"{split}: labels change")
        some = [0, len(one.labels) - 1]
        suite.demand(np.array_equal(one.images(some), two.images(some)), f"{split}: images change")


def splits_share_no_image(suite: Suite) -> None:
    """No test image stands among the training images, and the splits' content hashes differ."""
    train, test = (_split(suite, split) for split in SPLITS)
    suite.demand(
        isinstance(train.content, str) and train.content and train.content != test.content,
        f"the content hashes are {train.content!r} and {test.content!r}",
    )
    pictures = [
        {i.tobytes() for i in s.images(range(min(len(s.labels), LOOKED_AT)))}
        for s in (train, test)
    ]
    shared = len(pictures[0] & pictures[1])
    suite.demand(not shared, f"{shared} images stand in both splits")


def the_score_counts_what_is_right(suite: Suite) -> None:
    """``correct`` gives a bool per image: true where the label's output is largest, not least."""
    import numpy as np

    labels = _split(suite, "test").labels[:2]
    right = np.eye(_spec(suite).classes, dtype=np.float32)[labels]
    for outputs, expected in ((right, True), (-right, False)):
        said: Any = suite.technique.correct(outputs, labels)
        good = str(getattr(said, "dtype", "")) == "bool" and said.shape == labels.shape
        suite.demand(good, f"correct() must give an array of {len(labels)} bool, it is {said!r}")
        suite.demand(
            (said == expected).all(),
            f"correct() says {said.tolist()} where the label's output is "
            f"{'the largest' if expected else 'the least'}",
        )


DATASET = (
    its_spec_is_a_problem,
    images_are_contiguous_float32_of_the_spec,
    images_are_those_asked_for,
    images_are_copies,
    labels_and_ids_fit,
    loading_twice_gives_the_same,
    splits_share_no_image,
    the_score_counts_what_is_right,
)
