"""Fashion-MNIST: found where it is installed, downloaded where it is not, cached as arrays.

Zalando's 28 x 28 grey-scale images of ten kinds of clothing, 60,000 to train on and 10,000 to
test on (Xiao, Rasul and Vollgraf, arXiv:1708.07747), under the MIT licence.
"""

from __future__ import annotations

import os
import warnings
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from csoftmax.core.errors import DataError, DataNotFoundError
from csoftmax.data.dataset import Dataset
from csoftmax.data.pictures import PictureRecipe
from csoftmax.data.readers.idx import read_idx
from csoftmax.data.sets.cache import cached_arrays, load_arrays, mapped_arrays, user_cache_folder

CLASS_NAMES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
RECIPE = PictureRecipe()  # its defaults
SYSTEM_FOLDER = Path("/usr/share/datasets/fashion-mnist")
BASE_URLS = (
    "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
)
# seconds to connect, and to wait for the next bytes
TIMEOUT = (4, 30)
# below a folder that the user names: itself, a subfolder, and where torchvision puts the files
_SUBFOLDERS = ("", "fashion-mnist", "FashionMNIST/raw")


class SourceFile(NamedTuple):
    """One of the four files: its name without .gz and what it must hold.

    A download is checked by the SHA-256 of the .gz file as its authors publish it. Files from
    elsewhere are checked by that of the values in them, because they may have been compressed
    anew, as those of Debian's package are.
    """

    name: str
    shape: tuple[int, ...]
    sha256_published: str
    sha256_values: str


FILES = {
    "train-images": SourceFile(
        "train-images-idx3-ubyte",
        (60000, 28, 28),
        "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
        "2e487a6c89124f78f2d7521542223cafe96f7123c3ca13d447772ac6ecbb3012",
    ),
    "train-labels": SourceFile(
        "train-labels-idx1-ubyte",
        (60000,),
        "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
        "657fbd221bfc9f4198cc14b5619cc33ec57c58dd0e47af4d99d6650759e869a7",
    ),
    "t10k-images": SourceFile(
        "t10k-images-idx3-ubyte",
        (10000, 28, 28),
        "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
        "c867c93ff95360594e8ec3287995350b824dd110b11595c0e13d5423f621867a",
    ),
    "t10k-labels": SourceFile(
        "t10k-labels-idx1-ubyte",
        (10000,),
        "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
        "3d0e6c6ea990b53b6f8f500a41cac93881d981b315f84578b7d915342ade01e9",
    ),
}


class DatasetLocation(NamedTuple):
    """A place where the data is looked for, and what is there."""

    where: str
    path: Path | None
    found: bool
    detail: str


def fashion_mnist(root: str | os.PathLike[str] | None = None) -> tuple[Dataset, Dataset]:
    """Return Fashion-MNIST: (60000, 28, 28) uint8 images to train on, 10,000 to test on.

    The four IDX files, plain or .gz, are looked for in ``root``; or else in the folder that the
    environment variable CSOFTMAX_DATA_HOME names, in the user's cache, and in
    /usr/share/datasets/fashion-mnist (Debian's package dataset-fashion-mnist); or else they are
    downloaded into the cache, unless CSOFTMAX_OFFLINE is set to 1. In the first two places, a
    subfolder ``fashion-mnist`` or ``FashionMNIST/raw`` will do as well. The contents are checked
    by SHA-256, and cached as arrays that later calls map into memory. A warning tells if the folder
    of CSOFTMAX_DATA_HOME lacks them.

    Parameters
    ----------
    root : path, optional
        A folder with the four files. If given, no other place is tried.

    Returns
    -------
    train, test : Dataset
        ``X`` is uint8 and may be read-only; ``scale`` is 1/255.

    Raises
    ------
    DataNotFoundError
        If root lacks a file, or the data is nowhere and cannot be downloaded; the message says
        what was tried and how to get the data.
    DataError
        If a file is broken or is not of Fashion-MNIST.

    Examples
    --------
    >>> from csoftmax.data import fashion_mnist
    >>> train, test = fashion_mnist()  # doctest: +SKIP
    >>> train.X.shape, test.X.shape  # doctest: +SKIP
    ((60000, 28, 28), (10000, 28, 28))
    """
    arrays = _find_arrays(None if root is None else Path(root))
    return _datasets(arrays, "fashion-mnist")


def fashion_mnist_sample() -> tuple[Dataset, Dataset]:
    """Return the sample of Fashion-MNIST that comes with csoftmax: 6,000 + 1,000 images.

    The first 600 images of each class to train on, and the first 100 of each to test on.

    Returns
    -------
    train, test : Dataset

    Examples
    --------
    >>> from csoftmax.data import fashion_mnist_sample
    >>> train, test = fashion_mnist_sample()
    >>> train.X.shape, test.X.shape, train.class_names[1]
    ((6000, 28, 28), (1000, 28, 28), 'Trouser')
    """
    files = _files_in(sample_folder())
    return _datasets({key: read_idx(path) for key, path in files.items()}, "fashion-mnist sample")


def sample_folder() -> Path:
    """Return the folder with the four IDX files of the bundled sample.

    Examples
    --------
    >>> from csoftmax.data import sample_folder
    >>> sorted(path.name for path in sample_folder().glob("*labels*"))
    ['t10k-labels-idx1-ubyte.gz', 'train-labels-idx1-ubyte.gz']
    """
    return Path(__file__).parent / "sample"


def dataset_locations() -> list[DatasetLocation]:
    """Return the places where fashion_mnist() looks, in its order, and what is there.

    Returns
    -------
    list of DatasetLocation
        Named tuples ``(where, path, found, detail)``; path is None for a place that is not set.

    Examples
    --------
    >>> from csoftmax.data import dataset_locations
    >>> [location.where for location in dataset_locations()]
    ['CSOFTMAX_DATA_HOME', 'user cache', 'system', 'bundled sample']
    """
    home = _data_home()
    cache = user_cache_folder()
    locations = [
        _look("CSOFTMAX_DATA_HOME", home, "is not set"),
        _look("user cache", cache, "no home folder"),
        _look("system", SYSTEM_FOLDER, ""),
        _look("bundled sample", sample_folder(), ""),
    ]
    if cache and mapped_arrays(cache, _shapes()):
        locations[1] = DatasetLocation("user cache", cache, True, "cached arrays")
    return locations


def _datasets(arrays: dict[str, NDArray[Any]], name: str) -> tuple[Dataset, Dataset]:
    def dataset(part: str, title: str) -> Dataset:
        images, labels = arrays[f"{part}-images"], arrays[f"{part}-labels"]
        return Dataset(images, labels, 1 / 255, CLASS_NAMES, f"{name} {title}", recipe=RECIPE)

    return dataset("train", "train"), dataset("t10k", "test")


def _find_arrays(root: Path | None) -> dict[str, NDArray[Any]]:
    cache = user_cache_folder()
    if root is not None:
        files = _files_in(root)
        if len(files) < len(FILES):
            raise DataNotFoundError(f"root {root}: {_missing(files)}")
        return cached_arrays(cache, files, _read_checked, _shapes())
    home = _data_home()
    place = _look("CSOFTMAX_DATA_HOME", home, "is not set")
    if home is not None and not place.found:
        told = f"{place.where}={home}: {place.detail}; Fashion-MNIST is looked for elsewhere"
        warnings.warn(told, stacklevel=3)
    for folder in (home, cache, SYSTEM_FOLDER):
        if folder is None:
            continue
        if folder is cache and (arrays := load_arrays(cache, _shapes())):
            return arrays
        files = _files_in(folder)
        if len(files) == len(FILES):
            return cached_arrays(cache, files, _read_checked, _shapes())
    if os.environ.get("CSOFTMAX_OFFLINE", "0") not in ("", "0"):
        raise DataNotFoundError(_advice(["download: switched off by CSOFTMAX_OFFLINE"]))
    import tempfile

    with ExitStack() as stack:
        folder = cache
        if folder is None or not _is_writable(folder):
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        return cached_arrays(cache, _download(folder), _read_checked, _shapes())


def _shapes() -> dict[str, tuple[int, ...]]:
    return {key: file.shape for key, file in FILES.items()}


def _data_home() -> Path | None:
    home = os.environ.get("CSOFTMAX_DATA_HOME")
    return Path(home).expanduser() if home else None


def _files_in(folder: Path) -> dict[str, Path]:
    """Return those of the four files that a folder has: of its subfolder that has the most."""
    best: dict[str, Path] = {}
    for subfolder in _SUBFOLDERS:
        found = {}
        for key, file in FILES.items():
            plain = folder / subfolder / file.name
            for path in (plain, plain.with_name(f"{plain.name}.gz")):
                if path.is_file():
                    found[key] = path
                    break
        if len(found) > len(best):
            best = found
    return best


def _missing(files: dict[str, Path]) -> str:
    names = [f"{file.name}[.gz]" for key, file in FILES.items() if key not in files]
    return "lacks " + ", ".join(names)


def _look(where: str, path: Path | None, unset: str) -> DatasetLocation:
    if path is None:
        return DatasetLocation(where, None, False, unset)
    files = _files_in(path)
    found = len(files) == len(FILES)
    if found:
        return DatasetLocation(where, path, True, "four IDX files")
    detail = _missing(files) if path.is_dir() else "no such folder"
    return DatasetLocation(where, path, False, detail)


def _read_checked(key: str, path: Path) -> NDArray[Any]:
    import hashlib

    file = FILES[key]
    array = read_idx(path)
    if array.shape != file.shape or array.dtype != np.uint8:
        raise DataError(f"{path}: expected {file.shape} uint8 for Fashion-MNIST, got {array.shape} "
                        f"{array.dtype}; read() takes other IDX folders")  # fmt: skip
    digest = hashlib.sha256(array.data).hexdigest()
    if digest != file.sha256_values:
        raise DataError(f"{path}: expected the values of Fashion-MNIST (SHA-256 "
                        f"{file.sha256_values}), got SHA-256 {digest}; delete the file if it is "
                        "damaged; read() takes other IDX folders")  # fmt: skip
    return array


def _is_writable(folder: Path) -> bool:
    import tempfile

    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def _download(folder: Path) -> dict[str, Path]:
    """Download the four .gz files into a folder, each from the first place that has it right."""
    import pooch

    logger = pooch.get_logger()
    level = logger.level
    logger.setLevel("ERROR")
    bases = list(BASE_URLS)
    failures: list[str] = []
    files: dict[str, Path] = {}
    downloader = pooch.HTTPDownloader(progressbar=True, chunk_size=1 << 16, timeout=TIMEOUT)
    try:
        for key, file in FILES.items():
            name = f"{file.name}.gz"
            while key not in files:
                if not bases:
                    raise DataNotFoundError(_advice(failures))
                try:
                    pooch.retrieve(
                        bases[0] + name,
                        known_hash=f"sha256:{file.sha256_published}",
                        fname=name,
                        path=folder,
                        downloader=downloader,
                    )
                    files[key] = folder / name
                except (OSError, ValueError) as error:
                    # a place that failed once is not asked again, so that who is offline waits once
                    failures.append(f"download: {bases.pop(0)}{name}: {error}")
    finally:
        logger.setLevel(level)
    return files


def _advice(failures: list[str]) -> str:
    tried = [
        f"{location.where}: {location.path or ''} {location.detail}".replace("  ", " ")
        for location in dataset_locations()[:-1]
    ]
    return "\n".join(
        [
            "Fashion-MNIST was not found. Tried:",
            *(f"  - {line}" for line in tried + failures),
            "Three ways to get it:",
            "  1. install it: sudo apt install dataset-fashion-mnist",
            f"  2. put the four files ({', '.join(file.name for file in FILES.values())}; plain "
            "or .gz) into a folder, and set CSOFTMAX_DATA_HOME to it or pass it as root",
            "  3. go online and run this again: 31 MB are downloaded, once",
        ]
    )
