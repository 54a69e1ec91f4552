"""Data sets that each break a promise: of every technique, or of data sets."""

from __future__ import annotations

import os
import random
import time
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
from pydantic import ConfigDict

from broken_promise import broken
from dlas.core.protocols import Dataset, DataSpec, impossible, unavailable
from dlas.testing import SmallImages

# ---------------------------------------------------------------- any technique


@broken("it-is-found-by-its-name")
class NoDocstring(SmallImages):
    pass


@broken("it-is-a-frozen-dataclass-that-says-what-it-is")
class Undecorated(SmallImages):
    """Its own fields would be no parameters."""


@broken("it-is-a-frozen-dataclass-that-says-what-it-is")
class WrongPlaces(SmallImages):
    """A place that is no parameter."""

    places: ClassVar[tuple[str, ...]] = ("root",)


@broken("it-is-a-frozen-dataclass-that-says-what-it-is")
class NoLicence(SmallImages):
    """Nobody knows whose images these are."""

    licence: ClassVar[str] = ""


@broken("its-methods-are-not-those-of-the-base")
class CannotLoad(Dataset):
    """It has a shape and no images."""

    licence: ClassVar[str] = "none"

    def spec(self) -> DataSpec:
        return DataSpec(2, 1, 4, 4)


@broken("unknown-parameters-are-refused")
class TakesAnything(SmallImages):
    """Parameters that it does not know are dropped."""

    __pydantic_config__ = ConfigDict(extra="ignore")


@broken("values-of-the-wrong-type-are-refused")
class Untyped(SmallImages):
    """A parameter of any type."""

    how: Any = None


@broken("its-choice-is-json-and-can-be-revived")
class Growing(SmallImages):
    """A parameter that grows whenever it is made."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "each", self.each + 1)


@broken("its-identity-is-json-and-stable")
class RandomFingerprint(SmallImages):
    """Every run would do everything anew."""

    def fingerprint(self) -> Any:
        return random.random()


@broken("its-identity-is-json-and-stable")
class ProcessFingerprint(SmallImages):
    """The same within a process only."""

    def fingerprint(self) -> Any:
        return os.getpid()


@broken("its-identity-is-json-and-stable")
class SetFingerprint(SmallImages):
    """No JSON."""

    def fingerprint(self) -> Any:
        return {1, 2}


@broken("planning-with-it-loads-no-runtime")
class LoadsRuntime(SmallImages):
    """Planning with it loads a runtime."""

    def fingerprint(self) -> Any:
        import onnxruntime

        return onnxruntime.__version__


@broken("it-answers-for-any-stack")
class SaysText(SmallImages):
    """A reason without a status."""

    def why_not(self, stack: Any) -> Any:
        return "not with this model"


@broken("it-answers-for-any-stack")
class AsksNames(SmallImages):
    """A rule that looks into what not every technique has."""

    def why_not(self, stack: Any) -> Any:
        return None if stack.model.depth else impossible("a network has to be deep")


@broken("it-refuses-not-every-stack")
class RefusesAll(SmallImages):
    """It can stand nowhere."""

    def why_not(self, stack: Any) -> Any:
        return unavailable("not implemented for any stack")


# ---------------------------------------------------------------- data sets


@broken("its-spec-is-a-problem", batch=2)
class IgnoresBatch(SmallImages):
    """The batch asked for is forgotten."""

    def spec(self) -> DataSpec:
        return replace(super().spec(), batch=1)


class Changed:
    """Samples of which a part is not as it should be."""

    def __init__(self, samples: Any, **other: Any) -> None:
        self.labels, self.ids, self.content = samples.labels, samples.ids, samples.content
        self.images = samples.images
        self.__dict__.update(other)


IMAGES = "images-are-contiguous-float32-of-the-spec"


@broken(IMAGES)
class Doubles(SmallImages):
    """float64 images."""

    def load(self, split: Any) -> Any:
        samples = super().load(split)
        return Changed(samples, images=lambda i: samples.images(i).astype(np.float64))


@broken(IMAGES)
class Nhwc(SmallImages):
    """Channels last."""

    channels: int = 3

    def load(self, split: Any) -> Any:
        samples = super().load(split)
        return Changed(samples, images=lambda i: samples.images(i).transpose(0, 2, 3, 1))


@broken(IMAGES)
class Strided(SmallImages):
    """Every second column of a larger array."""

    def load(self, split: Any) -> Any:
        samples = super().load(split)
        return Changed(samples, images=lambda i: samples.images(i).repeat(2, axis=3)[..., ::2])


@broken(IMAGES)
class NotNumbers(SmallImages):
    """A hole in each image."""

    def load(self, split: Any) -> Any:
        samples = super().load(split)
        samples.pixels[:, :, 0, 0] = np.nan
        return samples


@broken("images-are-those-asked-for")
class Sorted(SmallImages):
    """Images in the order of the data set, not in the order asked for."""

    def load(self, split: Any) -> Any:
        samples = super().load(split)
        return Changed(samples, images=lambda i: samples.images(sorted(i)))


@broken("images-are-copies")
class Views(SmallImages):
    """The first two images are the memory itself."""

    def load(self, split: Any) -> Any:
        samples = super().load(split)
        return Changed(
            samples,
            images=lambda i: samples.pixels[:2] if list(i) == [0, 1] else samples.images(i),
        )


@broken("labels-and-ids-fit")
class SmallLabels(SmallImages):
    """int32 labels."""

    def load(self, split: Any) -> Any:
        samples = super().load(split)
        return Changed(samples, labels=samples.labels.astype(np.int32))


@broken("labels-and-ids-fit")
class OneLabelMore(SmallImages):
    """Classes counted from one."""

    def load(self, split: Any) -> Any:
        samples = super().load(split)
        return Changed(samples, labels=samples.labels + 1)


@broken("labels-and-ids-fit")
class SameIds(SmallImages):
    """One id for all."""

    def load(self, split: Any) -> Any:
        samples = super().load(split)
        return Changed(samples, ids=("image",) * len(samples.ids))


@broken("loading-twice-gives-the-same")
class Unseeded(SmallImages):
    """Other images whenever they are loaded."""

    def load(self, split: Any) -> Any:
        samples = super().load(split)
        samples.pixels[...] += np.float32(random.random())
        return samples


@broken("loading-twice-gives-the-same")
class NewIds(SmallImages):
    """Ids of the moment."""

    def load(self, split: Any) -> Any:
        samples = super().load(split)
        return Changed(samples, ids=tuple(f"{time.time()}-{i}" for i in samples.ids))


@broken("splits-share-no-image")
class OneSplit(SmallImages):
    """The test is what was trained on."""

    def load(self, split: Any) -> Any:
        return super().load("train")


@broken("the-score-counts-what-is-right")
class AlwaysRight(SmallImages):
    """Every answer counts."""

    def correct(self, outputs: Any, labels: Any) -> Any:
        return np.ones(len(labels), dtype=bool)


@broken("the-score-counts-what-is-right")
class Graded(SmallImages):
    """A number instead of right or wrong."""

    def correct(self, outputs: Any, labels: Any) -> Any:
        return (outputs.argmax(axis=1) == labels).astype(np.float64)
