"""Puts ``conf/`` into the wheel, as ``vicinal/conf``; all else is in pyproject.toml.

An editable install reads ``conf/`` where it is, at the top of the checkout.
"""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithConf(build_py):
    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            conf = Path(self.build_lib, "vicinal", "conf")
            shutil.rmtree(conf, ignore_errors=True)  # what an earlier build has left there
            shutil.copytree("conf", conf)


setup(cmdclass={"build_py": BuildWithConf})
