"""The parts of the import law that import-linter cannot state without a list that grows stale."""

from __future__ import annotations

import grimp
import pytest

STAGES = ("worker.decode", "worker.faces", "worker.tracks", "worker.crops", "worker.ensemble")
CONTRACT_NEEDS = {"pydantic", "pydantic_settings", "fsspec"}
PARQUET = "app.contract.exports.parquet"  # loads pyarrow, of an extra, when it is asked for


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    return grimp.build_graph("app", "worker", "model_store", include_external_packages=True, cache_dir=None)


def imports_of(graph: grimp.ImportGraph, package: str) -> set[str]:
    """The imports of a package's modules from outside of it."""
    inside = {package, *graph.find_descendants(package)}
    found = set().union(*(graph.find_modules_directly_imported_by(module) for module in inside))
    return found - inside


def third_party(graph: grimp.ImportGraph, modules: set[str]) -> set[str]:
    return {module for module in modules if graph.is_module_squashed(module)}


def test_contract_imports_nothing_else_of_the_front_end(graph: grimp.ImportGraph) -> None:
    """Both sides can use the contract without pulling in a side."""
    found = imports_of(graph, "app.contract")
    assert not {module for module in found if module.split(".")[0] in {"app", "worker", "model_store"}}


def test_contract_needs_three_packages(graph: grimp.ImportGraph) -> None:
    """The contract is data: pydantic, pydantic-settings, fsspec and the standard library."""
    packages = third_party(graph, imports_of(graph, "app.contract"))
    assert {package for package in packages if package not in _standard_library()} <= CONTRACT_NEEDS | {"pyarrow"}
    assert graph.find_modules_that_directly_import("pyarrow") & set(graph.find_descendants("app.contract")) == {PARQUET}


def test_worker_sees_the_contract_only(graph: grimp.ImportGraph) -> None:
    """No module of the worker imports a module of the front end outside the contract."""
    found = {module for module in imports_of(graph, "worker") if module.split(".")[0] == "app"}
    assert found
    assert all(module == "app.contract" or module.startswith("app.contract.") for module in found)


@pytest.mark.parametrize("stage", STAGES)
def test_stage_sees_the_core_only(graph: grimp.ImportGraph, stage: str) -> None:
    """A stage imports nothing of the project but itself and the core."""
    found = {module for module in imports_of(graph, stage) if module.split(".")[0] in {"app", "model_store", "worker"}}
    assert {module for module in found if module != "worker" and not module.startswith("worker.core.")} == set()


def _standard_library() -> frozenset[str]:
    import sys

    return sys.stdlib_module_names
