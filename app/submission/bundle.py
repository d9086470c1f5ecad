"""The bundle of a submission, looked up once, as soon as its name is known."""

from __future__ import annotations

from dataclasses import dataclass

from app.contract.options import JobOptions
from app.contract.workers import ModelInfo, WorkerInfo
from app.http.errors import InvalidOption
from app.jobs.live_workers import Registry
from app.settings import Settings


@dataclass(frozen=True)
class Bundle:
    """A bundle that jobs can use.

    info: its published record; None if no worker has ever served the default.  worker: a live worker, or None.
    """

    queue: str
    name: str
    info: ModelInfo | None
    worker: WorkerInfo | None

    def prior(self, options: JobOptions) -> float | None:
        """The prior of the job's scores, None if unknown."""
        if self.info is None or self.info.prior is None:
            return None
        return self.info.prior.default if options.prior_share is None else options.prior_share

    def check(self, options: JobOptions) -> None:
        """Raises: InvalidOption if the bundle is known to lack a requested member, or label frequencies for `prior`."""
        if self.info is None:
            return
        if options.prior is not None and self.info.prior is None:
            lacks = f"prior: model {self.name!r} does not tell how frequent its labels were in training; leave it out."
            raise InvalidOption(lacks, field="prior")
        has = [member.name for member in self.info.members]
        for name in options.members or ():
            if name not in has:
                lacks = f"members: model {self.name!r} has no member {name!r}; it has {', '.join(has)}."
                raise InvalidOption(lacks, field="members")


class Bundles:
    """Bundles by name for one submission; None is the default."""

    def __init__(self, registry: Registry, settings: Settings) -> None:
        self._registry = registry
        self._settings = settings
        self._found: dict[str | None, Bundle] = {}

    async def of(self, name: str | None) -> Bundle:
        """The named bundle.  The default's folder name, which may differ from the bundle's, is also accepted.

        Raises: InvalidOption if the name is unknown, or if another bundle uses its queue now.
        """
        if name not in self._found:
            self._found[name] = await self._find(name)
        return self._found[name]

    async def _find(self, name: str | None) -> Bundle:
        unknown = InvalidOption(f"There is no model {str(name)[:64]!r}; /v1/models lists those served.", field="model")
        named = await self._registry.model(name) if name else None
        if named is None and name not in {None, self._settings.bundle_name}:
            raise unknown
        queue = named.queue if named else self._settings.default_queue
        serving = await self._registry.serving(queue)
        if named and serving and serving.name != named.name:
            raise unknown
        info = named or serving
        worker = next((worker for worker in await self._registry.live_workers() if worker.queue == queue), None)
        return Bundle(queue, info.name if info else self._settings.bundle_name, info, worker)
