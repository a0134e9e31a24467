"""The store's parts under the names of before, for modules that do not import them from their own modules yet."""

from parcelq.store.bucket import BucketStore, Stream
from parcelq.store.folder import FolderStore
from parcelq.store.store import Store

__all__ = ["BucketStore", "FolderStore", "Store", "Stream"]
