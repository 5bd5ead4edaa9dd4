"""What is read: a fixed list of public modules, so that a run depends on versions alone, not on what else is installed.

Modules are named one by one instead of walked: a walk would import test suites, run side effects (`antigravity`,
`this`), need a display (`tkinter`, `turtledemo`), and take minutes over the models of transformers.
"""

from __future__ import annotations

from typing import NamedTuple


class Library(NamedTuple):
    """One library: its distribution's name (empty for the standard library) and the modules that are read."""

    name: str
    distribution: str
    modules: tuple[str, ...]


def _library(name: str, distribution: str, submodules: str = "", *, top: bool = True) -> Library:
    """A library whose top package is `name`, read itself if `top`; `submodules` are relative to it."""
    modules = (f"{name}.{module}" for module in submodules.split())
    return Library(name, distribution, (name, *modules) if top else tuple(modules))


_STDLIB = """
    builtins abc argparse array ast asyncio atexit base64 binascii bisect bz2 cProfile calendar cmath cmd code
    codecs collections collections.abc colorsys compileall concurrent.futures configparser contextlib contextvars
    copy csv ctypes ctypes.util dataclasses datetime dbm decimal difflib dis doctest email email.message
    email.mime.multipart email.mime.text email.utils enum errno faulthandler fileinput filecmp fnmatch fractions
    ftplib functools gc getopt getpass gettext glob graphlib gzip hashlib heapq hmac html html.parser http
    http.client http.cookies http.server importlib importlib.machinery importlib.metadata importlib.resources
    importlib.util inspect io ipaddress itertools json keyword linecache locale logging logging.config
    logging.handlers lzma marshal math mimetypes mmap multiprocessing multiprocessing.managers multiprocessing.pool
    multiprocessing.shared_memory numbers operator os os.path pathlib pickle pkgutil platform pprint py_compile
    queue quopri random re reprlib runpy sched secrets select selectors shelve shlex shutil signal smtplib socket
    socketserver sqlite3 ssl stat statistics string struct subprocess sys sysconfig tarfile tempfile textwrap
    threading time timeit token tokenize trace traceback tracemalloc types typing unicodedata unittest unittest.mock
    urllib.error urllib.parse urllib.request urllib.robotparser uuid warnings wave weakref webbrowser
    xml.dom.minidom xml.etree.ElementTree xml.sax xml.sax.saxutils zipapp zipfile zlib zoneinfo
"""

LIBRARIES = (
    Library("stdlib", "", tuple(_STDLIB.split())),
    _library(
        "numpy",
        "numpy",
        "char dtypes exceptions fft lib lib.format lib.mixins lib.npyio lib.scimath lib.stride_tricks linalg ma "
        "polynomial polynomial.polynomial random rec strings testing typing",
    ),
    _library(
        "scipy",
        "scipy",
        "cluster cluster.hierarchy cluster.vq constants datasets differentiate fft integrate interpolate io io.arff "
        "io.wavfile linalg ndimage optimize signal signal.windows sparse sparse.csgraph sparse.linalg spatial "
        "spatial.distance spatial.transform special stats stats.contingency stats.qmc",
    ),
    _library(
        "pandas",
        "pandas",
        "api.indexers api.types api.typing errors io.formats.style io.json plotting testing",
    ),
    _library(
        "sklearn",
        "scikit-learn",
        "base calibration cluster compose covariance cross_decomposition datasets decomposition discriminant_analysis "
        "dummy ensemble exceptions feature_extraction feature_extraction.image feature_extraction.text "
        "feature_selection frozen gaussian_process gaussian_process.kernels impute inspection isotonic "
        "kernel_approximation kernel_ridge linear_model manifold metrics metrics.cluster metrics.pairwise mixture "
        "model_selection multiclass multioutput naive_bayes neighbors neural_network pipeline preprocessing "
        "random_projection semi_supervised svm tree utils utils.class_weight utils.extmath utils.graph "
        "utils.multiclass utils.random utils.validation",
    ),
    _library(
        "torch",
        "torch",
        "amp autograd autograd.functional autograd.graph autograd.profiler cuda distributions "
        "distributions.transforms fft func hub linalg multiprocessing nested nn nn.attention nn.functional nn.init "
        "nn.parallel nn.utils nn.utils.parametrizations nn.utils.parametrize nn.utils.prune nn.utils.rnn optim "
        "optim.lr_scheduler optim.swa_utils profiler quasirandom random signal.windows sparse special testing "
        "utils.checkpoint utils.data utils.data.distributed utils.dlpack",
    ),
    _library(
        "transformers",
        "transformers",
        "configuration_utils data.data_collator feature_extraction_utils generation generation.logits_process "
        "generation.stopping_criteria generation.streamers hf_argparser modeling_utils models.auto.configuration_auto "
        "models.auto.tokenization_auto optimization pipelines pipelines.base processing_utils tokenization_utils_base "
        "trainer trainer_callback trainer_seq2seq trainer_utils training_args utils.logging",
        top=False,  # it offers every class of every model
    ),
    _library(
        "datasets",
        "datasets",
        "arrow_dataset builder dataset_dict distributed download features fingerprint hub info iterable_dataset load "
        "splits utils utils.logging",
    ),
    _library(
        "sympy",
        "sympy",
        "assumptions calculus calculus.util concrete core core.function discrete functions "
        "functions.combinatorial.numbers integrals integrals.transforms logic logic.boolalg matrices ntheory "
        "ntheory.continued_fraction ntheory.factor_ ntheory.residue_ntheory parsing.latex parsing.sympy_parser "
        "plotting polys printing series sets simplify solvers solvers.inequalities solvers.ode solvers.recurr "
        "solvers.solveset utilities utilities.iterables utilities.lambdify",
        top=False,  # without its geometry
    ),
    _library(
        "networkx",
        "networkx",
        "algorithms.approximation algorithms.assortativity algorithms.bipartite algorithms.centrality "
        "algorithms.coloring algorithms.community algorithms.connectivity algorithms.flow algorithms.isomorphism "
        "algorithms.link_analysis algorithms.node_classification algorithms.operators algorithms.traversal "
        "algorithms.tree generators linalg readwrite utils",
    ),
    _library("pyarrow", "pyarrow", "csv parquet", top=False),
    _library(
        "sentence_transformers",
        "sentence-transformers",
        "cross_encoder cross_encoder.evaluation cross_encoder.losses evaluation losses util",
    ),
    _library("pydantic", "pydantic", "dataclasses fields functional_validators networks types"),
    _library("requests", "requests", "adapters auth cookies exceptions models sessions utils"),
    _library("httpx", "httpx"),
    _library("tqdm", "tqdm", "asyncio auto contrib.concurrent"),
    _library("joblib", "joblib"),
    _library("yaml", "PyYAML"),
)
