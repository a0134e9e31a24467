"""Uploads large files of this machine to a bucket, in parts that are sent in parallel."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from boto3.exceptions import S3UploadFailedError

from parcelq.aws.clients import translated
from parcelq.errors import ParcelqError
from parcelq.local_files import naming
from parcelq.store.bucket import BucketStore


def put_file(store: BucketStore, path: Path, key: str, on_bytes: Callable[[int], None]) -> None:
    """Put a file into a bucket.

    Args:
        on_bytes: a function that several threads call with the size of each block after the block was sent.

    Raises:
        AwsError: S3 refused a request.
        ParcelqError: the file cannot be read.
    """
    try:
        with translated(), naming(path):
            store.s3.upload_file(str(path), store.bucket, key, Callback=on_bytes)
    except S3UploadFailedError as error:
        raise ParcelqError(str(error)) from None
