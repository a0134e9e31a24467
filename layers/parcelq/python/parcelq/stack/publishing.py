"""Uploads a workflow to a stack: builds bundles, checks that bundles fit on a processor's disk, uploads new bundles."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from parcelq.amounts import size
from parcelq.errors import ParcelqError
from parcelq.limits import MIB

if TYPE_CHECKING:
    from parcelq.jobs.assembled import Assembled
    from parcelq.jobs.version import Version
    from parcelq.stack.lookup import Stack

Note = Callable[[str], None]
Uploading = Callable[[str, int | None], AbstractContextManager[Callable[[int], None]]]
"""A function that shows an upload, given the upload's title and size. The function returns a context manager, which
yields a function that is called with the number of bytes of each block.
"""


@contextmanager
def silently(_what: str, _size: int | None) -> Iterator[Callable[[int], None]]:
    """Upload without showing the progress; a function of the type `Uploading`."""
    yield lambda _count: None


def publish(stack: Stack, assembled: Assembled, note: Note, uploading: Uploading) -> Version:
    """Store a version of a workflow in a stack. Bundles that the stack already has are not uploaded again.

    Raises:
        SettingsError: a package does not exist for the platform of the stack's functions, or the stack lacks a stage.
        ParcelqError: the workflow needs more disk than a processor has, or the workflow's name is reserved.
    """
    from parcelq.jobs.version import version_of
    from parcelq.jobs.versions import bundle_key
    from parcelq.steps.bundles import write_bundle

    if assembled.name.startswith(f"{stack.prefix}-"):
        raise ParcelqError(
            f"workflow is {assembled.name!r}, but names that begin with {stack.prefix}- "
            f"are reserved for the stack's topics"
        )
    assembled.workflow.stages(stack.stages)
    # A workflow that is certainly too large is refused before packing, because packing takes minutes.
    _check_room(stack, assembled.name, sum(path.stat().st_size for path in assembled.files.values()))
    packages = assembled.packages(stack.target, note)
    python = stack.packages_are_for if any(packages) else ""
    versions = stack.versions
    with tempfile.TemporaryDirectory(prefix="parcelq-bundle-") as scratch:
        archive = Path(scratch) / "code.zip"
        code = write_bundle(assembled.files, archive)
        version = version_of(
            assembled.name,
            assembled.workflow,
            code,
            [(one.bundle, one.lock) if one else None for one in packages],
            python,
        )
        packed, unpacked = (sum(one.size for one in version.bundles), sum(one.room for one in version.bundles))
        note(f"workflow {version.name}: {size(packed)} in bundles, {size(unpacked)} unpacked and compiled")
        _check_room(stack, version.name, version.room)
        archives = {code: archive, **{one.bundle: one.archive for one in packages if one}}
        for bundle in versions.lacks(version):
            what = "the workflow's files" if bundle == code else "its packages"
            with uploading(what, bundle.size) as on_bytes:
                stack.store.put_file(bundle_key(bundle), archives[bundle], on_bytes)
        versions.put(version)
    return version


def _check_room(stack: Stack, name: str, needed: int) -> None:
    """Raise ParcelqError if a workflow does not fit on a processor's disk."""
    most = stack.storage_mib * MIB // 2
    if needed > most:
        mib = -(-needed // MIB)
        raise ParcelqError(
            f"workflow {name!r} needs {mib:,} MiB of disk, but a processor "
            f"of stack {stack.name!r} has half of its {stack.storage_mib:,} MiB for workflows; "
            f"deploy it with ProcessorStorage={2 * mib} or more"
        )
