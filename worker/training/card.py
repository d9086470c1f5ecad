"""The model card: a bundle's README, generated from its manifest."""

from __future__ import annotations

from pathlib import Path

from model_store.bundle import read_manifest, write_whole
from model_store.manifest import Manifest, Measurement

FER_FAILURES = """\
- Models trained on FER+ votes call weak anger and weak disgust neutral; disgust and fear are rare in the data, so their
  figures rest on few faces and their recall is the lowest.
- The two annotations of this data disagree: the most frequent vote is the older FER2013 label on 63 % of the validation
  faces. Figures for either are bounded by that.
- Small, turned, covered or badly lit faces are labelled too. Where a window of frames does not help, the answer is
  often Neutral with a low score.
- Children, older people, glasses, beards, make-up, drawings and skin tones are not balanced in the training data, and
  nobody has measured how errors differ between groups.
- Talking moves the mouth: frames within speech can read as surprise or happiness.
"""
VIDEO_FAILURES = """\
- Labels that are rare in the training videos are found less often than common ones.
- People, light and cameras unlike those of the training videos are labelled with less certainty than the scores say.
- Nobody has measured how errors differ between groups of people.
"""


def refresh_card(folder: Path, before: Manifest) -> None:
    """Generate a bundle's card again, if it was generated from the manifest `before`."""
    card = folder / "README.md"
    if card.is_file() and card.read_text() == model_card(before):
        write_whole(card, model_card(read_manifest(folder)))


def model_card(manifest: Manifest) -> str:
    """Markdown: data, recipe, metrics with the commands that measured them, known failures, terms, intended use."""
    origin = manifest.provenance
    stills = origin.clips_from_stills
    lines = [
        f"# {manifest.name} {manifest.version}",
        "",
        f"Labels one of {len(manifest.labels)} facial expressions ({', '.join(manifest.labels)}) in face crops of "
        f"{manifest.input.size} x {manifest.input.size} pixels, {manifest.input.colour}.",
        "",
        "## Intended use",
        "",
        manifest.intended_use,
        "",
        "## Members",
        "",
        "| member | backbone | head | temperature | fusion weight |",
        "|---|---|---|---|---|",
    ]
    for member in manifest.members:
        sizes = ", ".join(f"{k} {v}" for k, v in member.head.model_dump(exclude={"architecture"}).items()) or "linear"
        lines.append(
            f"| {member.name} | {member.backbone.architecture} | {member.head.architecture}: {sizes} "
            f"| {member.temperature} | {member.fusion_weight} |"
        )
    if manifest.prior is not None:
        shares = ", ".join(f"{k} {v:.3f}" for k, v in zip(manifest.labels, manifest.prior.shares, strict=True))
        lines += [
            "",
            f"Shares of the labels in training: {shares}. The fused scores hold them to the power of "
            f"{manifest.prior.trained:g}; a job or command that gives no `prior` gets {manifest.prior.default:g}.",
        ]
    lines += ["", "## Measured", ""]
    lines += [line for measurement in manifest.measurements for line in _measured(measurement)]
    if not manifest.measurements:
        lines += ["Nothing yet.", ""]
    if manifest.graphs is not None and manifest.graphs.int8 is not None:
        int8 = manifest.graphs.int8
        change = "unknown" if int8.accuracy_change is None else f"{int8.accuracy_change:+.4f}"
        lines += [
            f"In 8 bits on a CPU (`MIEN_PRECISION=int8`) {int8.agreement:.2%} of {int8.faces} faces of {int8.data} get "
            f"the label of float32; change of accuracy: {change}.",
            "",
        ]
    lines += [
        "Weights and temperatures of the fusion and the best epochs were chosen on the validation data, so figures "
        "measured on it are slightly too good.",
        "",
        "## Training data",
        "",
        origin.data,
        "",
        f"Terms: {origin.data_terms}",
        "",
    ]
    if stills:
        lines += [
            "**There was no labelled video.** The temporal members were trained on clips made from stills: movement, "
            "crop jitter, blur, noise, compression, occlusion, changing light, cuts and cross-fades between faces with "
            "different labels. They help where single frames are bad; they know nothing of how an expression unfolds.",
            "",
        ]
    return "\n".join([*lines, *_recipe_to_licence(manifest)])


def _recipe_to_licence(manifest: Manifest) -> list[str]:
    origin = manifest.provenance
    return [
        "## Recipe",
        "",
        f"Recipe `{origin.recipe}`, seed {origin.seed}, commit {origin.commit}, {origin.created_at}. Every setting is "
        "under `provenance.settings` of bundle.json.",
        "",
        *([str(origin.settings["notes"]), ""] if "notes" in origin.settings else []),
        "## Known failures",
        "",
        FER_FAILURES if origin.clips_from_stills else VIDEO_FAILURES,
        "## Licence",
        "",
        manifest.licence,
        "",
    ]


def _measured(measurement: Measurement) -> list[str]:
    names = list(measurement.ensemble)
    rows = [("ensemble", measurement.ensemble), *measurement.members.items()]
    lines = [
        f"`{measurement.labels}` of {measurement.data}, by `{measurement.command}`:",
        "",
        f"| | {' | '.join(names)} |",
        f"|---|{'---|' * len(names)}",
    ]
    lines += [f"| {who} | {' | '.join(f'{metrics[name]:.3f}' for name in names)} |" for who, metrics in rows]
    return [*lines, ""]
