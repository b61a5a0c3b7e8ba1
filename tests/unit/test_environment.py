"""environment.yml (conda) and pyproject.toml (pip) ask for the same packages in the same versions."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

Wanted = dict[str, SpecifierSet]

CONDA_NAMES = {"playwright-python": "playwright"}
"""Where conda-forge calls a package otherwise than the Python index does."""


def of_pyproject(text: str) -> Wanted:
    """Every requirement of pyproject.toml, extras included, and Python itself."""
    project = tomllib.loads(text)["project"]
    lines = [*project["dependencies"], *(line for extra in project["optional-dependencies"].values() for line in extra)]
    return collect([*lines, f"python{project['requires-python']}"])


def of_environment(text: str) -> Wanted:
    """Every requirement of environment.yml, conda's and pip's; the project itself and pip are not among them."""
    dependencies = yaml.safe_load(text)["dependencies"]
    nested = [entry["pip"] for entry in dependencies if isinstance(entry, dict)]
    conda = [entry for entry in dependencies if isinstance(entry, str) and entry != "pip"]
    return collect([*conda, *(line for lines in nested for line in lines if line != "-e .")])


def collect(lines: list[str]) -> Wanted:
    """Requirements by name. The same one twice is a mistake."""
    wanted: Wanted = {}
    for line in lines:
        requirement = Requirement(line)
        name = CONDA_NAMES.get(requirement.name, requirement.name).lower()
        assert name not in wanted, f"{name} is asked for twice"
        wanted[name] = requirement.specifier
    return wanted


@pytest.fixture
def pyproject(checkout) -> str:
    return (checkout / "pyproject.toml").read_text()


@pytest.fixture
def environment(checkout) -> str:
    return (checkout / "environment.yml").read_text()


def test_conda_and_pip_agree(pyproject, environment):
    assert of_environment(environment) == of_pyproject(pyproject)


def test_conda_installs_the_project_itself(environment):
    assert any(
        "-e ." in entry["pip"] for entry in yaml.safe_load(environment)["dependencies"] if isinstance(entry, dict)
    )


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("  - matplotlib>=3.8\n", ""),  # one is missing
        ("  - matplotlib>=3.8\n", "  - matplotlib>=3.8\n  - pandas>=2\n"),  # one too many
        ("matplotlib>=3.8", "matplotlib>=3.7"),  # another version
        ("nbval==0.11.0", "nbval>=0.11.0"),  # another pin, in pip's part
        ("python>=3.11", "python>=3.12"),  # another Python
    ],
)
def test_a_difference_is_noticed(pyproject, environment, old, new):
    assert old in environment
    assert of_environment(environment.replace(old, new)) != of_pyproject(pyproject)


def test_what_is_installed_here_is_what_was_asked_for(pyproject):
    from importlib.metadata import version

    wanted = of_pyproject(pyproject)
    del wanted["python"]
    wrong = {name: version(name) for name, versions in wanted.items() if not versions.contains(version(name), True)}
    assert wrong == {}


def test_the_engine_alone_needs_nothing_of_jupyter(pyproject):
    names = {Requirement(line).name for line in tomllib.loads(pyproject)["project"]["dependencies"]}
    assert names.isdisjoint(
        Requirement(line).name for line in tomllib.loads(pyproject)["project"]["optional-dependencies"]["lab"]
    )


def test_python_is_the_one_that_the_lab_accepts(pyproject, checkout: Path):
    (lowest,) = of_pyproject(pyproject)["python"]
    assert lowest.operator == ">="
    assert f"sys.version_info >= ({lowest.version.replace('.', ', ')})" in (checkout / "lab").read_text()
