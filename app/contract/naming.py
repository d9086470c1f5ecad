"""What clients call a job: its name and its metadata.  Both are only ever shown, compared and handed out again."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterable
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints

MAX_NAME_CHARACTERS = 200
MAX_GIVEN_CHARACTERS = 4000  # of a name before it is cleaned
MAX_METADATA = 16
BATCH = r"^[A-Za-z0-9_.-]{1,64}$"
MAX_PERSONS, MAX_TRACKS = 500, 5000  # notes on people of a job, and tracks of one
METADATA_PREFIX = "metadata."  # before a key, as a field of a form and as a parameter
_JOINERS = "\u200c\u200d"  # format characters that words and emoji need
_BREAKS = {"Cc", "Zl", "Zp"}  # categories of characters that end a line, and of other controls
_PATH = re.compile(r"[/\\]")


def clean_name(text: str) -> str:
    """A name in one line: no control and no direction characters, single spaces, at most 200 characters.

    "" where nothing is left.
    """
    normal = unicodedata.normalize("NFC", text)
    kept = "".join("" if _is_hidden(c) else " " if unicodedata.category(c) in _BREAKS else c for c in normal)
    return " ".join(kept.split())[:MAX_NAME_CHARACTERS].strip()


def name_of_file(file_name: str) -> str:
    """The name of a job whose upload had this file name: without folders, cleaned."""
    return clean_name(_PATH.split(file_name)[-1])


def _is_hidden(character: str) -> bool:
    """Whether it turns or hides the text around it."""
    return unicodedata.category(character) in {"Cf", "Cs", "Co"} and character not in _JOINERS


def _plain(text: str) -> str:
    if any(_is_hidden(c) or unicodedata.category(c) in _BREAKS for c in text):
        raise ValueError("no control or direction characters")
    return text


def _parsed(value: Any) -> Any:
    """Metadata as forms carry it, a JSON object, -> a dict."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError:
        raise ValueError("not a JSON object") from None


Name = Annotated[str, StringConstraints(max_length=MAX_GIVEN_CHARACTERS), AfterValidator(clean_name)]
PersonName = Annotated[str, StringConstraints(max_length=80), AfterValidator(clean_name)]
Key = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.-]{1,40}$")]
Value = Annotated[str, StringConstraints(max_length=MAX_NAME_CHARACTERS), AfterValidator(_plain)]
Metadata = Annotated[dict[Key, Value], BeforeValidator(_parsed), Field(max_length=MAX_METADATA)]


class Naming(BaseModel):
    """What a submission calls its job."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Name | None = Field(
        None, description="What the job is called; the upload's file name where absent. Cleaned, cut at 200 characters."
    )
    metadata: Metadata = Field(
        default_factory=dict,
        description=f"At most {MAX_METADATA} short texts by key, as a JSON object; or one field `metadata.KEY` each.",
    )
    batch: str | None = Field(
        None, pattern=BATCH, description="Name of a batch; jobs of one name are counted, read and removed together."
    )


class PersonNote(BaseModel):
    """What somebody said of a person: who it is, which tracks are this person, whether it is shown."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: PersonName | None = None
    tracks: tuple[Annotated[int, Field(ge=0, strict=True)], ...] = Field(min_length=1, max_length=MAX_TRACKS)
    hidden: bool = Field(False, strict=True, description="pages do not show this person")


def _disjoint(notes: tuple[PersonNote, ...]) -> tuple[PersonNote, ...]:
    tracks = [track for note in notes for track in note.tracks]
    if len(set(tracks)) < len(tracks):
        raise ValueError("a track is one person")
    return notes


Persons = Annotated[tuple[PersonNote, ...], Field(max_length=MAX_PERSONS), AfterValidator(_disjoint)]


class NamingPatch(BaseModel):
    """A change of what a job and its people are called, as a JSON Merge Patch (RFC 7396).

    What is absent stays, null removes; `persons` is replaced as a whole.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Name | None = None
    metadata: dict[Key, Value | None] | None = Field(None, max_length=4 * MAX_METADATA)
    persons: Persons | None = None


def names_by_track(persons: Iterable[PersonNote]) -> dict[int, str]:
    """Name of the person of every track that has one."""
    return {track: note.name for note in persons if note.name for track in note.tracks}
