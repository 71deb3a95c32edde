"""Reads a PyTorch checkpoint of tensors without PyTorch.

The format that `torch.save` wrote before version 1.6: four pickles (magic number, protocol,
machine, the object), a pickled list of storage keys, then each storage as an element count (i64)
and its raw little-endian elements. Only the few names that a dictionary of tensors needs are
allowed in the pickles, so that a file cannot run code.
"""

import collections
import pickle
import struct
from pathlib import Path

import numpy as np

MAGIC = 0x1950A86A20F9469CFC6C
DTYPES = {"FloatStorage": np.float32, "LongStorage": np.int64}


class Storage:
    """A flat array that tensors are views of; its elements are read after the pickles."""

    def __init__(self, dtype: type):
        """Starts without elements."""
        self.dtype = np.dtype(dtype)
        self.elements = None


class TensorView:
    """A tensor as pickled: a window on a storage."""

    def __init__(self, storage, offset, shape, strides, *_):
        """Takes the arguments of `torch._utils._rebuild_tensor_v2`; strides count elements."""
        self.storage, self.offset, self.shape, self.strides = storage, offset, shape, strides

    def array(self) -> np.ndarray:
        """Returns a copy of the elements."""
        step = self.storage.dtype.itemsize
        view = np.lib.stride_tricks.as_strided(
            self.storage.elements[self.offset :], self.shape, [s * step for s in self.strides]
        )
        return view.copy()


class CheckpointUnpickler(pickle.Unpickler):
    """Unpickles dictionaries of tensors and nothing else."""

    def __init__(self, file):
        """Reads from an open binary file."""
        super().__init__(file)
        self.storages = {}

    def find_class(self, module: str, name: str):
        """Resolves the names of the format."""
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return TensorView
        if module == "torch" and name in DTYPES:
            return DTYPES[name]
        raise pickle.UnpicklingError(f"{module}.{name} is not part of a dictionary of tensors")

    def persistent_load(self, reference: tuple) -> Storage:
        """Returns the storage that ("storage", dtype, key, device, elements, view) names."""
        _, dtype, key, *_ = reference
        return self.storages.setdefault(key, Storage(dtype))


def read(path: Path) -> dict[str, np.ndarray]:
    """Returns the checkpoint's tensors by name."""
    with open(path, "rb") as file:
        if CheckpointUnpickler(file).load() != MAGIC:
            raise ValueError(f"{path} is not a PyTorch checkpoint of the format before 1.6")
        for _ in ("protocol", "machine"):
            CheckpointUnpickler(file).load()
        unpickler = CheckpointUnpickler(file)
        tensors = unpickler.load()
        for key in CheckpointUnpickler(file).load():
            storage = unpickler.storages[key]
            (count,) = struct.unpack("<q", file.read(8))
            data = file.read(count * storage.dtype.itemsize)
            storage.elements = np.frombuffer(data, storage.dtype)
    return {name: tensor.array() for name, tensor in tensors.items()}
