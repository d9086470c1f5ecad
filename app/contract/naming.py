"""Names, metadata and notes that clients attach to a job.  They are only shown, compared and returned."""

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
BATCH = r"^[A-Za-z0-9_-][A-Za-z0-9_.-]{0,63}$"  # clients would resolve /v1/batches/.. as a relative path
MAX_PERSONS, MAX_TRACKS = 500, 5000  # notes on people of a job, and tracks of a note
METADATA_PREFIX = "metadata."  # precedes a key in form fields and query parameters
_JOINERS = "\u200c\u200d"  # format characters that words and emoji require
_BREAKS = {"Cc", "Zl", "Zp"}  # Unicode categories of line ends and control characters
_PATH = re.compile(r"[/\\]")


def clean_name(text: str) -> str:
    """A name in one line: no control and no direction characters, single spaces, at most 200 characters.

    "" if nothing remains.
    """
    normal = unicodedata.normalize("NFC", text)
    kept = "".join("" if _is_hidden(c) else " " if unicodedata.category(c) in _BREAKS else c for c in normal)
    return " ".join(kept.split())[:MAX_NAME_CHARACTERS].strip()


def name_of_file(file_name: str) -> str:
    """The job's name for an upload with this file name: without folders, cleaned."""
    return clean_name(_PATH.split(file_name)[-1])


def _is_hidden(character: str) -> bool:
    """Whether the character reverses or hides the text around it."""
    return unicodedata.category(character) in {"Cf", "Cs", "Co"} and character not in _JOINERS


def _plain(text: str) -> str:
    if any(_is_hidden(c) or unicodedata.category(c) in _BREAKS for c in text):
        raise ValueError("no control or direction characters")
    return text


def _parsed(value: Any) -> Any:
    """Metadata of a form, a JSON object, -> a dict."""
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
    """Name, metadata and batch of a submission."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Name | None = Field(
        None, description="Name of the job; default: the upload's file name. Cleaned, and cut at 200 characters."
    )
    metadata: Metadata = Field(
        default_factory=dict,
        description=f"At most {MAX_METADATA} short texts by key, as a JSON object; or one field `metadata.KEY` each.",
    )
    batch: str | None = Field(
        None, pattern=BATCH, description="Name of a batch; its jobs can be counted, read and removed together."
    )


class PersonNote(BaseModel):
    """A client's note on a person: name, tracks, and whether the page hides them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: PersonName | None = None
    tracks: tuple[Annotated[int, Field(ge=0, strict=True)], ...] = Field(min_length=1, max_length=MAX_TRACKS)
    hidden: bool = Field(False, strict=True, description="the page does not show this person")


def _disjoint(notes: tuple[PersonNote, ...]) -> tuple[PersonNote, ...]:
    tracks = [track for note in notes for track in note.tracks]
    if len(set(tracks)) < len(tracks):
        raise ValueError("a track can belong to one person only")
    return notes


Persons = Annotated[tuple[PersonNote, ...], Field(max_length=MAX_PERSONS), AfterValidator(_disjoint)]


class NamingPatch(BaseModel):
    """A change of a job's name, metadata and persons, as a JSON Merge Patch (RFC 7396).

    Absent fields stay, null removes; `persons` is replaced as a whole.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Name | None = None
    metadata: dict[Key, Value | None] | None = Field(None, max_length=4 * MAX_METADATA)
    persons: Persons | None = None


def names_by_track(persons: Iterable[PersonNote]) -> dict[int, str]:
    """Name of the person of every track that has one; tracks that are one person without a name have the first's."""
    return {
        track: note.name or f"Face {min(note.tracks)}"
        for note in persons
        if note.name or len(note.tracks) > 1
        for track in note.tracks
    }
