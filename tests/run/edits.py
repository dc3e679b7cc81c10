"""Edits of what a notebook reads beside its code: what is there before, the cell that reads it, the edit itself."""

import io
import py_compile
import sqlite3
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

Content = str | Callable[[Path], None]


@dataclass(frozen=True)
class Edit:
    """One edit in a checkout of one notebook.

    Attributes
    ----------
    cell
        Source of the notebook's cell.
    files
        What is there, by name from the root on: its content, or what makes the file.
    after
        What the edit writes; None removes the file.
    warning
        What the page shows instead, where the edit cannot be seen; empty where it has to be.
    variables
        Of the environment, before and after.
    """

    name: str
    cell: str
    files: Mapping[str, Content]
    after: Mapping[str, Content | None] = field(default_factory=dict)
    warning: str = ""
    variables: tuple[dict[str, str], dict[str, str]] = ({}, {})


def write_zip(**contents: str) -> Callable[[Path], None]:
    """Return what writes a zip archive."""

    def write(path: Path) -> None:
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in contents.items():
                archive.writestr(zipfile.ZipInfo(name.replace("__", ".")), content)

    return write


def write_compiled(content: str) -> Callable[[Path], None]:
    """Return what writes a module without its source."""

    def write(path: Path) -> None:
        source = path.with_name("gone.txt")
        source.write_text(content)
        py_compile.compile(str(source), cfile=str(path), doraise=True)
        source.unlink()

    return write


def write_database(value: int) -> Callable[[Path], None]:
    """Return what writes a SQLite database of one number."""

    def write(path: Path) -> None:
        path.unlink(missing_ok=True)
        with sqlite3.connect(path) as connection:
            connection.execute("create table rates (rate int)")
            connection.execute("insert into rates values (?)", (value,))
        connection.close()

    return write


def write_parquet(value: int) -> Callable[[Path], None]:
    """Return what writes a table of one number."""

    def write(path: Path) -> None:
        import pandas as pd

        pd.DataFrame({"rate": [value]}).to_parquet(path)

    return write


def write_array(value: int) -> Callable[[Path], None]:
    """Return what writes an array of one number."""

    def write(path: Path) -> None:
        import numpy as np

        held = io.BytesIO()
        np.save(held, np.array([value]))
        path.write_bytes(held.getvalue())

    return write


RATES: Mapping[str, Content] = {"notebooks/rates.csv": "a\n1\n"}
RATES_AFTER: Mapping[str, Content] = {"notebooks/rates.csv": "a\n2\n"}
HELPER: Mapping[str, Content] = {"notebooks/helper.py": "LIMIT = 1\n"}
HELPER_AFTER: Mapping[str, Content] = {"notebooks/helper.py": "LIMIT = 2\n"}
APART: Mapping[str, Content] = {"src/apart.py": "LIMIT = 1\n"}
APART_AFTER: Mapping[str, Content] = {"src/apart.py": "LIMIT = 2\n"}
PLUGINS: Mapping[str, Content] = {"notebooks/plugins/__init__.py": "", "notebooks/plugins/one.py": "LIMIT = 1\n"}
LAZY = (
    "import importlib\ndef __getattr__(name):\n"
    "    return importlib.import_module(f'{__name__}.{name}')\n__all__ = [name for name in ('one', 'two')]\n"
)


def data(
    name: str,
    cell: str,
    files: Mapping[str, Content] = RATES,
    after: Mapping[str, Content | None] = RATES_AFTER,
    **more: object,
) -> Edit:
    """Return an edit of data."""
    return Edit(name, cell, files, after, **more)  # type: ignore[arg-type]


def code(
    name: str,
    cell: str,
    files: Mapping[str, Content] = HELPER,
    after: Mapping[str, Content | None] = HELPER_AFTER,
    **more: object,
) -> Edit:
    """Return an edit of code."""
    return Edit(name, cell, files, after, **more)  # type: ignore[arg-type]


DATA = [
    data("file read by open", "open('rates.csv').read()"),
    data("CSV read by pandas", "import pandas as pd\npd.read_csv('rates.csv')"),
    data(
        "by an absolute path",
        "import os\nopen(os.path.join(os.environ['LABKIT_ROOT'], 'notebooks', 'rates%s' % '.csv')).read()",
    ),
    data("by a name put together", "from pathlib import Path\nPath('ra%s' % 'tes.csv').read_text()"),
    data("by os.open", "import os\nos.read(os.open('rates.csv', os.O_RDONLY), 9)"),
    data("by a copy elsewhere", "import shutil, tempfile\nshutil.copy('rates.csv', tempfile.mkdtemp())"),
    data("by linecache", "import linecache\nlinecache.getlines('rates.csv')"),
    data(
        "by a file address",
        "import urllib.request, pathlib\nurllib.request.urlopen(pathlib.Path('rates.csv').absolute().as_uri()).read()",
    ),
    data(
        "in a thread",
        "from concurrent.futures import ThreadPoolExecutor\nwith ThreadPoolExecutor(1) as pool: list(pool.map(lambda name: open(name).read(), ['rates.csv']))",
    ),
    data(
        "in a forked process",
        "import multiprocessing\nprocess = multiprocessing.get_context('fork').Process(target=lambda: open('ra%s' % 'tes.csv').read())\nprocess.start(); process.join()",
    ),
    data("in another folder at the time", "import os\nos.chdir('..')\nopen('notebooks/' + 'rates.csv').read()"),
    data(
        "beside the helper, by __file__",
        "import helper",
        {
            "notebooks/helper.py": "import json\nfrom pathlib import Path\nLIMIT = json.loads(Path(__file__).with_name('limits.json').read_text())",
            "notebooks/limits.json": "1",
        },
        {"notebooks/limits.json": "2"},
    ),
    data(
        "of a package, by importlib.resources",
        "import importlib.resources\nimportlib.resources.files('room').joinpath('words.txt').read_text()",
        {"notebooks/room/__init__.py": "", "notebooks/room/words.txt": "one"},
        {"notebooks/room/words.txt": "two"},
    ),
    data(
        "of a package, by pkgutil",
        "import pkgutil\npkgutil.get_data('room', 'words.txt')",
        {"notebooks/room/__init__.py": "", "notebooks/room/words.txt": "one"},
        {"notebooks/room/words.txt": "two"},
    ),
    data(
        "string of a query",
        "from pathlib import Path\nPath('../sql/rates.sql').read_text()",
        {"sql/rates.sql": "select 1"},
        {"sql/rates.sql": "select 2"},
    ),
    data(
        "another experiment's data",
        "from pathlib import Path\nPath('../data/other/clean/rows.csv').read_text()",
        {"data/other/clean/rows.csv": "1"},
        {"data/other/clean/rows.csv": "2"},
    ),
    data(
        "another params file",
        "import yaml\nyaml.safe_load(open('../params/other.yaml'))",
        {"params/other.yaml": "folds: 1"},
        {"params/other.yaml": "folds: 2"},
    ),
    data(
        "settings",
        "import configparser\nconfigparser.ConfigParser().read('settings.ini')",
        {"notebooks/settings.ini": "[a]\nb=1"},
        {"notebooks/settings.ini": "[a]\nb=2"},
    ),
    data(
        "TOML",
        "import tomllib\ntomllib.load(open('settings.toml', 'rb'))",
        {"notebooks/settings.toml": "a=1"},
        {"notebooks/settings.toml": "a=2"},
    ),
    data("hidden file", "open('.limits').read()", {"notebooks/.limits": "1"}, {"notebooks/.limits": "2"}),
    data(
        "database",
        "import sqlite3\nsqlite3.connect('rates.db').execute('select * from rates').fetchall()",
        {"notebooks/rates.db": write_database(1)},
        {"notebooks/rates.db": write_database(2)},
    ),
    data(
        "Parquet by pandas",
        "import pandas as pd\npd.read_parquet('rates.' + 'parquet')",
        {"notebooks/rates.parquet": write_parquet(1)},
        {"notebooks/rates.parquet": write_parquet(2)},
    ),
    data(
        "Parquet by a library in C",
        "import pyarrow.parquet as pq\npq.read_table('rates.parquet')",
        {"notebooks/rates.parquet": write_parquet(1)},
        {"notebooks/rates.parquet": write_parquet(2)},
    ),
    data(
        "Parquet by a library in C, in a folder named elsewhere",
        "from pathlib import Path\nimport pyarrow.parquet as pq\nfolder = Path('../tables')\npq.read_table(folder / 'rates.parquet')",
        {"tables/rates.parquet": write_parquet(1)},
        {"tables/rates.parquet": write_parquet(2)},
    ),
    data(
        "array",
        "import numpy as np\nnp.load('rates.npy')",
        {"notebooks/rates.npy": write_array(1)},
        {"notebooks/rates.npy": write_array(2)},
    ),
    data(
        "archive",
        "import zipfile\nzipfile.ZipFile('rates.zip').read('a.csv')",
        {"notebooks/rates.zip": write_zip(a__csv="1")},
        {"notebooks/rates.zip": write_zip(a__csv="2")},
    ),
    data(
        "link within the checkout",
        "open('link.csv').read()",
        {**RATES, "notebooks/link.csv": lambda path: path.symlink_to("rates.csv")},
    ),
    data(
        "file that was not there",
        "from pathlib import Path\ntry:\n    open('local.json')\nexcept FileNotFoundError:\n    pass",
        {},
        {"notebooks/local.json": "1"},
    ),
    data(
        "file that goes",
        "try:\n    open('rates.csv').read()\nexcept FileNotFoundError:\n    pass",
        RATES,
        {"notebooks/rates.csv": None},
    ),
    data(
        "settings that were not there",
        "import configparser\nconfigparser.ConfigParser().read('local.ini')",
        {},
        {"notebooks/local.ini": "[a]\nb=2"},
    ),
    data(
        "new file in a folder, by os.listdir",
        "import os\nos.listdir('parts')",
        {"notebooks/parts/a.csv": "1"},
        {"notebooks/parts/b.csv": "1"},
    ),
    data(
        "new file in a folder, by os.walk",
        "import os\nlist(os.walk('parts'))",
        {"notebooks/parts/in/a.csv": "1"},
        {"notebooks/parts/in/b.csv": "1"},
    ),
    data(
        "new file in a folder, by iterdir",
        "from pathlib import Path\nlist(Path('parts').iterdir())",
        {"notebooks/parts/a.csv": "1"},
        {"notebooks/parts/b.csv": "1"},
    ),
    data(
        "new file of a pattern, by glob",
        "import glob\nglob.glob('parts/*.csv')",
        {"notebooks/parts/a.csv": "1"},
        {"notebooks/parts/b.csv": "1"},
    ),
    data(
        "new file of a pattern, by pathlib",
        "from pathlib import Path\nlist(Path('..').rglob('*.csv'))",
        {"notebooks/parts/a.csv": "1"},
        {"tables/b.csv": "1"},
    ),
    data(
        "file of a pattern",
        "import glob\n[open(name).read() for name in glob.glob('parts/*.csv')]",
        {"notebooks/parts/a.csv": "1"},
        {"notebooks/parts/a.csv": "2"},
    ),
    data(
        "one of many files",
        "import glob\n[open(name).read() for name in glob.glob('parts/*.txt')]",
        {f"notebooks/parts/{number}.txt": "1" for number in range(120)},
        {"notebooks/parts/77.txt": "2"},
    ),
]
MODULES = [
    code("imported", "import helper"),
    code("sys.path +=", "import sys\nsys.path += ['../src']\nimport apart", APART, APART_AFTER),
    code("sys.path[:0] =", "import sys\nsys.path[:0] = ['../src']\nimport apart", APART, APART_AFTER),
    code(
        "sys.path by a variable",
        "import sys\nfolder = '../s' + 'rc'\nsys.path.insert(0, folder)\nimport apart",
        APART,
        APART_AFTER,
    ),
    code("site.addsitedir", "import site\nsite.addsitedir('../src')\nimport apart", APART, APART_AFTER),
    code(
        "folder entered", "import os, sys\nos.chdir('../src')\nsys.path.insert(0, '')\nimport apart", APART, APART_AFTER
    ),
    code("import_module(name=…)", "import importlib\nimportlib.import_module(name='helper')"),
    code("import_module renamed", "from importlib import import_module as load\nload('helper')"),
    code("import_module of a variable", "import importlib\nname = 'helper'\nimportlib.import_module(name)"),
    code("import_module of an f-string", "import importlib\nimportlib.import_module(f'hel{\"per\"}')"),
    code("__import__ of a variable", "name = 'hel' + 'per'\n__import__(name)"),
    code(
        "plug-in, by pkgutil",
        "import importlib, pkgutil, plugins\n[importlib.import_module(f'plugins.{one.name}') for one in pkgutil.iter_modules(plugins.__path__)]",
        PLUGINS,
        {"notebooks/plugins/one.py": "LIMIT = 2\n"},
    ),
    code(
        "new plug-in, by pkgutil",
        "import importlib, pkgutil, plugins\n[importlib.import_module(f'plugins.{one.name}') for one in pkgutil.iter_modules(plugins.__path__)]",
        PLUGINS,
        {"notebooks/plugins/two.py": "LIMIT = 2\n"},
    ),
    code(
        "lazy __getattr__",
        "import lazy\nlazy.one",
        {"notebooks/lazy/__init__.py": LAZY, "notebooks/lazy/one.py": "A = 1", "notebooks/lazy/two.py": ""},
        {"notebooks/lazy/one.py": "A = 2"},
    ),
    code(
        "computed __all__",
        "from lazy import *",
        {"notebooks/lazy/__init__.py": LAZY, "notebooks/lazy/one.py": "", "notebooks/lazy/two.py": "A = 1"},
        {"notebooks/lazy/two.py": "A = 2"},
    ),
    code(
        "TYPE_CHECKING set",
        "import typing\ntyping.TYPE_CHECKING = True\nimport room",
        {"notebooks/room.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import helper\n", **HELPER},
    ),
    code(
        "code below TYPE_CHECKING set",
        "import typing\ntyping.TYPE_CHECKING = True\nimport helper",
        {"notebooks/helper.py": "import typing\nif typing.TYPE_CHECKING:\n    LIMIT = 1\n"},
        {"notebooks/helper.py": "import typing\nif typing.TYPE_CHECKING:\n    LIMIT = 2\n"},
    ),
    code("runpy.run_module", "import runpy\nrunpy.run_module('helper')"),
    code("runpy.run_path", "import runpy\nrunpy.run_path('hel%s' % 'per.py')"),
    code("exec of a file", "exec(open('hel%s' % 'per.py').read())"),
    code(
        "exec of a string",
        "exec(open('helper.txt').read())",
        {"notebooks/helper.txt": "LIMIT = 1"},
        {"notebooks/helper.txt": "LIMIT = 2"},
    ),
    code(
        "spec_from_file_location",
        "import importlib.util as u\nspec = u.spec_from_file_location('apart', '../src/apart%s' % '.py')\nspec.loader.exec_module(u.module_from_spec(spec))",
        APART,
        APART_AFTER,
    ),
    code(
        "path of a package made longer",
        "import plugins\nplugins.__path__.append('../src')\nfrom plugins import apart",
        {**PLUGINS, **APART},
        APART_AFTER,
    ),
    code(
        "module without its source",
        "import compiled",
        {"notebooks/compiled.pyc": write_compiled("LIMIT = 1")},
        {"notebooks/compiled.pyc": write_compiled("LIMIT = 2")},
    ),
    code(
        "zip on the path",
        "import sys\nsys.path.insert(0, 'packed.zip')\nimport packed",
        {"notebooks/packed.zip": write_zip(packed__py="LIMIT = 1")},
        {"notebooks/packed.zip": write_zip(packed__py="LIMIT = 2")},
    ),
    code(
        "module that was not there",
        "import importlib\ntry:\n    importlib.import_module('loc' + 'al')\nexcept ImportError:\n    pass",
        {},
        {"notebooks/local.py": "LIMIT = 1"},
    ),
    code(
        "helper of such a module",
        "import importlib\nimportlib.import_module('ro' + 'om')",
        {"notebooks/room.py": "import helper", **HELPER},
    ),
    code(
        "data of such a module",
        "import importlib\nimportlib.import_module('ro' + 'om')",
        {"notebooks/room.py": "LIMIT = open('rates%s' % '.csv').read()", **RATES},
        RATES_AFTER,
    ),
]
MAGICS = [
    code("%run", "%run helper"),
    code("%run with the ending", "%run helper.py"),
    code("%run -m", "%run -m helper"),
    code(
        "%run of a notebook",
        "%run other.ipynb",
        {
            "notebooks/other.ipynb": '{"cells": [{"cell_type": "code", "metadata": {}, "outputs": [], "execution_count": null, "source": "a = 1"}], "metadata": {}, "nbformat": 4, "nbformat_minor": 4}'
        },
        {
            "notebooks/other.ipynb": '{"cells": [{"cell_type": "code", "metadata": {}, "outputs": [], "execution_count": null, "source": "a = 2"}], "metadata": {}, "nbformat": 4, "nbformat_minor": 4}'
        },
    ),
    code("%run below %%capture", "%%capture\n%run helper"),
    code(
        "%load_ext",
        "%load_ext extension",
        {"notebooks/extension.py": "def load_ipython_extension(shell):\n    pass\n"},
        {"notebooks/extension.py": "def load_ipython_extension(shell):\n    print(1)\n"},
    ),
    code("!python", "!python helper.py"),
    code("!python -m", "!python -m helper"),
    code("helper of !python -m", "!python -m room", {"notebooks/room.py": "import helper", **HELPER}),
    code("!bash", "!bash x.sh", {"notebooks/x.sh": "echo 1"}, {"notebooks/x.sh": "echo 2"}),
    code("output of a shell command", "held = !bash x.sh", {"notebooks/x.sh": "echo 1"}, {"notebooks/x.sh": "echo 2"}),
    code("%%bash that runs Python", "%%bash\npython helper.py"),
    code("%%python", "%%python\nimport helper"),
    code(
        "subprocess.run",
        "import subprocess\nsubprocess.run(['bash', 'x%s' % '.sh'])",
        {"notebooks/x.sh": "echo 1"},
        {"notebooks/x.sh": "echo 2"},
    ),
    code(
        "os.system",
        "import os\nos.system('bash %s' % 'x.sh')",
        {"notebooks/x.sh": "echo 1"},
        {"notebooks/x.sh": "echo 2"},
    ),
    data("argument of a program", "!cat rates.csv"),
]
DOCS = [
    code(
        "docstring by __doc__",
        "import helper\nhelper.__doc__",
        {"notebooks/helper.py": '"""One."""'},
        {"notebooks/helper.py": '"""Two."""'},
    ),
    code(
        "docstring by help",
        "import helper\nhelp(helper)",
        {"notebooks/helper.py": '"""One."""'},
        {"notebooks/helper.py": '"""Two."""'},
    ),
    code(
        "docstring by a question mark",
        "import helper\nhelper?",
        {"notebooks/helper.py": '"""One."""'},
        {"notebooks/helper.py": '"""Two."""'},
    ),
    code(
        "docstring by getattr",
        "import helper\ngetattr(helper, '__doc__')",
        {"notebooks/helper.py": '"""One."""'},
        {"notebooks/helper.py": '"""Two."""'},
    ),
    code(
        "docstring by inspect",
        "import inspect, helper\ninspect.getdoc(helper)",
        {"notebooks/helper.py": '"""One."""'},
        {"notebooks/helper.py": '"""Two."""'},
    ),
    code(
        "docstring, by a module found at run time",
        "import importlib, helper\nimportlib.import_module('ro' + 'om')",
        {"notebooks/helper.py": '"""One."""', "notebooks/room.py": "import helper\nprint(helper.__doc__)"},
        {"notebooks/helper.py": '"""Two."""'},
    ),
]
VARIABLE = ({"REGION": "north"}, {"REGION": "south"})
DECLARED = [
    data("declared variable", "step.depends_on(variable='REGION')", {}, {}, variables=VARIABLE),
    data(
        "declared variable that is set now",
        "step.depends_on(variable='REGION')",
        {},
        {},
        variables=({}, {"REGION": "south"}),
    ),
    data(
        "declared file that a program reads",
        "step.depends_on(path='rates.csv')\nimport subprocess\nsubprocess.run(['bash', '-c', 'cat *.csv'])",
    ),
    data(
        "declared folder",
        "step.depends_on(path='parts')",
        {"notebooks/parts/in/a.csv": "1"},
        {"notebooks/parts/in/a.csv": "2"},
    ),
    data(
        "file new in a declared folder",
        "step.depends_on(path='parts')",
        {"notebooks/parts/in/a.csv": "1"},
        {"notebooks/parts/in/b.csv": "1"},
    ),
    data(
        "declared file outside of the checkout",
        "step.depends_on(path='../../outside.csv')",
        {"../outside.csv": "1"},
        {"../outside.csv": "2"},
    ),
]
VARIABLES = [
    data(
        "variable by os.environ",
        "import os\nos.environ['REGION']",
        {},
        {},
        variables=VARIABLE,
    ),
    data(
        "variable by os.getenv",
        "import os\nos.getenv('REG' + 'ION')",
        {},
        {},
        variables=VARIABLE,
    ),
    data(
        "variable in a helper",
        "import helper",
        {"notebooks/helper.py": "from os import environ\nREGION = environ.get('REGION')"},
        {},
        variables=VARIABLE,
    ),
    data(
        "variable in a path",
        "import os\nos.path.expandvars('$REGION/rates.csv')",
        {},
        {},
        variables=VARIABLE,
    ),
    data(
        "variable that was not set",
        "import os\nos.getenv('REGION')",
        {},
        {},
        variables=({}, {"REGION": "south"}),
    ),
    data(
        "variable of a computed name",
        "import os\nfor name in ('REG' + 'ION',): os.environ[name]",
        {},
        {},
        variables=VARIABLE,
    ),
]
UNTRACEABLE = [
    data(
        "call that cannot be recorded",
        "import sys\nsys.audit('glob.glob/2', object(), False)",
        {},
        {},
        warning="Some of what it read could not be recorded (glob.glob/2: ",
    ),
    data(
        "variable of the machine",
        "import os\nos.environ.get('HOSTNAME')",
        {},
        {},
        variables=({"HOSTNAME": "here"}, {"HOSTNAME": "there"}),
        warning="variable HOSTNAME: a change of its value does not rerun the stage. It differs between machines",
    ),
    data(
        "address in the network",
        "import urllib.request\ntry:\n    urllib.request.urlopen('http://localhost:9/rates.csv')\nexcept OSError:\n    pass",
        {},
        {},
        warning="It connects to localhost: changes there do not rerun the stage",
    ),
    data(
        "socket",
        "import socket\nsocket.socket().connect_ex(('127.0.0.1', 9))",
        {},
        {},
        warning="It connects to 127.0.0.1: changes there do not rerun the stage",
    ),
    data(
        "address read by pandas",
        "import pandas as pd\ntry:\n    pd.read_csv('http://localhost:9/rates.csv')\nexcept OSError:\n    pass",
        {},
        {},
        warning="It connects to localhost: changes there do not rerun the stage",
    ),
    data(
        "package for databases",
        "import psycopg",
        {},
        {},
        warning="It uses psycopg: changes in a database do not rerun the stage",
    ),
    data(
        "package for databases, in a helper",
        "import importlib\nimportlib.import_module('hel' + 'per')",
        {"notebooks/helper.py": "import sqlalchemy"},
        {},
        warning="It uses sqlalchemy: changes in a database do not rerun the stage",
    ),
    data(
        "variable that looks like a secret",
        "import os\nos.getenv('DB_PASSWORD')",
        {},
        {},
        variables=({"DB_PASSWORD": "one-long-word"}, {"DB_PASSWORD": "other-long-word"}),
        warning="variable DB_PASSWORD: a change of its value does not rerun the stage. Declare it under `secrets`",
    ),
    data(
        "what a program reads",
        "import subprocess\nsubprocess.run(['bash', '-c', 'cat *.csv'])",
        warning="It starts `cat *.csv`: the files that these programs read are not recorded",
    ),
    data(
        "script that %%bash runs",
        "%%bash\nbash x.sh",
        {"notebooks/x.sh": "echo 1"},
        {"notebooks/x.sh": "echo 2"},
        warning="It starts `bash`",
    ),
    data(
        "what a worker process reads",
        "import multiprocessing, subprocess\nfrom work import read\nprocess = multiprocessing.get_context('spawn').Process(target=read)\nprocess.start(); process.join()",
        {"notebooks/work.py": "def read():\n    open('ra%s' % 'tes.csv').read()", **RATES},
        warning="It starts worker processes",
    ),
    data(
        "what a process of a fork server reads",
        "import multiprocessing\nfrom work import read\nprocess = multiprocessing.get_context('forkserver').Process(target=read)\nprocess.start(); process.join()",
        {"notebooks/work.py": "def read():\n    open('ra%s' % 'tes.csv').read()", **RATES},
        warning="It starts worker processes",
    ),
    data(
        "file outside of the checkout",
        "from pathlib import Path\nPath('../../outside.csv').read_text()",
        {"../outside.csv": "1"},
        {"../outside.csv": "2"},
        warning="outside.csv, outside of the checkout: changes there do not rerun the stage",
    ),
    data(
        "link that leads out of the checkout",
        "open('link.csv').read()",
        {"../outside.csv": "1", "notebooks/link.csv": lambda path: path.symlink_to("../../outside.csv")},
        {"../outside.csv": "2"},
        warning="outside.csv, outside of the checkout",
    ),
    code(
        "module outside of the checkout",
        "import sys\nsys.path.append('../../lib')\nimport apart",
        {"../lib/apart.py": "LIMIT = 1"},
        {"../lib/apart.py": "LIMIT = 2"},
        warning="lib/apart.py, outside of the checkout",
    ),
]
EDITS = [*DATA, *MODULES, *MAGICS, *DOCS, *DECLARED, *VARIABLES, *UNTRACEABLE]

INERT = [
    data("same bytes again", "open('rates.csv').read()", RATES, RATES),
    data("file that nobody reads", "open('rates.csv').read()", RATES, {"notebooks/other.csv": "1"}),
    code(
        "comment in a module found at run time",
        "import importlib\nimportlib.import_module('hel' + 'per')",
        HELPER,
        {"notebooks/helper.py": "# Why.\nLIMIT  =  1\n"},
    ),
    code(
        "docstring in a module found at run time",
        "import importlib\nimportlib.import_module('hel' + 'per')",
        HELPER,
        {"notebooks/helper.py": '"""Words."""\nLIMIT = 1\n'},
    ),
    code(
        "new module that nobody imports",
        "import importlib\nimportlib.import_module('hel' + 'per')",
        HELPER,
        {"notebooks/other.py": "1"},
    ),
    data("file of another pattern", "import glob\nglob.glob('*.csv')", RATES, {"notebooks/other.txt": "1"}),
    data(
        "what the stage writes",
        "open('mine.txt', 'w').write('1')\nopen('mine.txt').read()",
        {},
        {"notebooks/mine.txt": "2"},
    ),
    data(
        "what the stage writes if it is not there",
        "from pathlib import Path\npath = Path('mine.txt')\ntry:\n    path.read_text()\nexcept FileNotFoundError:\n    path.write_text('1')",
        {},
        {"notebooks/mine.txt": "2"},
    ),
    data(
        "what a library in C writes",
        "import pyarrow as pa, pyarrow.parquet as pq\npq.write_table(pa.table({'a': [1]}), 'mine.parquet')",
        {},
        {"notebooks/mine.parquet": "2"},
    ),
    data("what a program writes", "!echo 1 > mine.txt", {"notebooks/mine.txt": "0"}, {"notebooks/mine.txt": "2"}),
    data(
        "file put in place of another",
        "import os\nopen('.mine', 'w').write('1')\nos.replace('.mine', 'mine.txt')\nopen('mine.txt').read()",
        {},
        {"notebooks/mine.txt": "2"},
    ),
    data(
        "metadata of a package that is installed from the checkout",
        "from importlib.metadata import distributions\n[one.metadata['Name'] for one in distributions(path=['.'])]",
        {"notebooks/tool.egg-info/PKG-INFO": "Metadata-Version: 2.1\nName: tool\nVersion: 1.0\n"},
        {"notebooks/tool.egg-info/PKG-INFO": "Metadata-Version: 2.1\nName: tool\nVersion: 1.1\n"},
    ),
    data("labkit's own params", "step.params, step", {}, {}),
    data(
        "variable that the notebook sets itself",
        "import os\nos.environ['REGION'] = 'east'\nos.environ['REGION']",
        {},
        {},
        variables=VARIABLE,
    ),
    data(
        "variable that a library asks for",
        "import os, locale, tempfile\nos.environ.get('LANG')\ntempfile.gettempdir(), os.path.expanduser('~')",
        {},
        {},
        variables=VARIABLE,
    ),
    data(
        "variable of a program",
        "import os, subprocess\nsubprocess.run(['true'], env={**os.environ, 'A': '1'})",
        {},
        {},
        variables=VARIABLE,
    ),
    data(
        "cache of a program",
        "from pathlib import Path\nPath('.cache/x').read_text()",
        {"notebooks/.cache/x": "1"},
        {"notebooks/.cache/x": "2"},
    ),
    data(
        "folder marked as a cache",
        "from pathlib import Path\nPath('held/x').read_text()",
        {"notebooks/held/CACHEDIR.TAG": "", "notebooks/held/x": "1"},
        {"notebooks/held/x": "2"},
    ),
    data(
        "report of an earlier run",
        "from pathlib import Path\nPath('../reports/x.txt').read_text()",
        {"reports/x.txt": "1"},
        {"reports/x.txt": "2"},
    ),
]
