"""Models: the bundles that live workers serve."""

from __future__ import annotations

from fastapi import APIRouter
from pydantic import BaseModel, Field

from app.contract.workers import ModelInfo, WorkerInfo
from app.http.errors import NotFound
from app.http.openapi_examples import problems
from app.routes.dependencies import OwnerDep, ServicesDep
from app.services import Services

router = APIRouter(prefix="/v1/models", tags=["models"])


class Model(ModelInfo):
    """A bundle that live workers serve."""

    device: str | None = Field(description="device of the first worker")
    workers: tuple[WorkerInfo, ...]


class ModelList(BaseModel):
    """All bundles that live workers serve, by name."""

    models: tuple[Model, ...]


@router.get("", summary="Served models", response_model=ModelList, responses=problems(401, 429, 503))
async def list_models(services: ServicesDep, owner: OwnerDep) -> ModelList:
    """Bundles of live workers: labels, members, metrics, provenance, device."""
    return ModelList(models=tuple(await _served(services)))


@router.get("/{name}", summary="A served model", response_model=Model, responses=problems(401, 404, 422, 429, 503))
async def get_model(name: str, services: ServicesDep, owner: OwnerDep) -> Model:
    """One bundle of live workers."""
    for model in await _served(services):
        if model.name == name:
            return model
    raise NotFound("No live worker serves a model of this name.")


async def _served(services: Services) -> list[Model]:
    by_bundle: dict[str, list[WorkerInfo]] = {}
    for worker in await services.registry.live_workers():
        if worker.state in {"ready", "busy", "stopping"}:
            by_bundle.setdefault(worker.bundle, []).append(worker)
    models = []
    for name, workers in sorted(by_bundle.items()):
        info = await services.registry.model(name)
        if info is not None:
            models.append(Model(**dict(info), device=workers[0].device, workers=tuple(workers)))
    return models
