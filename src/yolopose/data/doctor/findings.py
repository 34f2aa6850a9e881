"""What a check reports: findings with examples and edits; the registry of all checks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from yolopose.data.doctor.survey import Survey

Severity = Literal["error", "warning", "notice"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "notice")
MAX_EXAMPLES = 200
"""Examples of a finding that are stored; its count includes all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One place of a finding.

    Attributes:
        text: what is wrong there, in a few words with the values.
        split: name of the split, or "".
        image: index of the image in its split; None if the example does not concern an image of a split.
        file: the image or label file.
        row: line in the label file, from 1, or None.
        instance: index of the instance in its split, or None.
        keypoint: index of the keypoint, or None.
        other: another image that is shown beside it, such as the original of a copy.
        score: rank among the examples of the finding; the largest is shown first.
    """

    text: str
    split: str = ""
    image: int | None = None
    file: Path | None = None
    row: int | None = None
    instance: int | None = None
    keypoint: int | None = None
    other: Path | None = None
    score: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Edit:
    """A change that the fixed copy contains.

    Attributes:
        split: name of the split.
        image: index of the image in its split.
        row: line in its label file, from 1; None concerns the image.
        columns: new values by column of the row, from 0.
        replacement: all values of the new row.
        drop: remove the row, or the image with its labels.
        reason: for the list of changes.
    """

    split: str
    image: int
    row: int | None
    reason: str
    columns: Mapping[int, float] = field(default_factory=dict[int, float])
    replacement: tuple[float, ...] = ()
    drop: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What a check returns for one kind of problem.

    Attributes:
        count: number of places.
        title: the problem with its count, as one sentence without a full stop.
        examples: some or all of the places.
        edits: changes that remove the problem; empty if none is safe.
        yaml: keys of the data YAML that the fixed copy changes.
        severity: instead of that of the check.
        how: instead of that of the check.
        values: numbers for programs.
    """

    count: int
    title: str
    examples: Iterable[Example] = ()
    edits: Iterable[Edit] = ()
    yaml: Mapping[str, Any] = field(default_factory=dict[str, Any])
    severity: Severity | None = None
    how: str | None = None
    values: Mapping[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A problem of a data set.

    Attributes:
        check: id of the check.
        severity: `error` (training fails, skips data or learns something wrong), `warning` (probably wrong or
            harmful), `notice` (worth knowing).
        title: the problem with its count.
        count: number of places.
        examples: up to `MAX_EXAMPLES` of them, the clearest first.
        why: why it matters.
        how: how to fix it.
        edits: changes that `fix=` makes.
        yaml: keys of the data YAML that `fix=` changes.
        values: numbers for programs.
    """

    check: str
    severity: Severity
    title: str
    count: int
    examples: tuple[Example, ...]
    why: str
    how: str
    edits: tuple[Edit, ...]
    yaml: Mapping[str, Any]
    values: Mapping[str, Any]

    @property
    def fixable(self) -> bool:
        """Whether `fix=` removes the problem, or a part of it."""
        return bool(self.edits or self.yaml)


CheckFunction = Callable[["Survey"], "Iterable[Evidence]"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """A check of the registry.

    Attributes:
        id: its name in reports, such as `box-without-points`.
        severity: of its findings, unless the evidence has its own.
        why: why the problem matters.
        how: how to fix it.
        run: the check; it yields one `Evidence` per kind of problem, and nothing if there is none.
        quick: whether the short report at the start of a training includes it.
        needs_all: whether it is wrong on a sample of the images, which the short report uses for large data sets.
    """

    id: str
    severity: Severity
    why: str
    how: str
    run: CheckFunction
    quick: bool
    needs_all: bool

    def findings(self, survey: Survey) -> list[Finding]:
        """Run the check."""
        return [self._finding(evidence) for evidence in self.run(survey) if evidence.count]

    def _finding(self, evidence: Evidence) -> Finding:
        examples = sorted(evidence.examples, key=lambda example: -example.score)
        return Finding(
            check=self.id,
            severity=evidence.severity or self.severity,
            title=evidence.title,
            count=evidence.count,
            examples=tuple(examples[:MAX_EXAMPLES]),
            why=self.why,
            how=evidence.how or self.how,
            edits=tuple(evidence.edits),
            yaml=dict(evidence.yaml),
            values=dict(evidence.values),
        )


CHECKS: dict[str, Check] = {}
"""All checks by id, in the order of the reports."""


def check(
    id: str, severity: Severity, *, why: str, how: str, quick: bool = False, needs_all: bool = False
) -> Callable[[CheckFunction], CheckFunction]:
    """Register a function as a check; arguments as the attributes of `Check`."""

    def register(function: CheckFunction) -> CheckFunction:
        CHECKS[id] = Check(id=id, severity=severity, why=why, how=how, run=function, quick=quick, needs_all=needs_all)
        return function

    return register


def plural(count: int, noun: str, plural_noun: str = "") -> str:
    """Return `1 image`, `2 images`, `12 000 images`."""
    number = f"{count:,}".replace(",", "\u202f")
    return f"{number} {noun if count == 1 else plural_noun or noun + 's'}"


def listing(names: Iterable[object], limit: int = 5) -> str:
    """Return up to `limit` names joined by commas, and the number of the others."""
    names = list(names)
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(map(str, names[:limit])) + more
