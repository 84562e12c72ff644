"""Plan → `Release`: the files and facts that define one version. Pure but for reading the package's templates."""

from heavylift.render.hosts import host_files, scrape_file
from heavylift.render.install import install_script
from heavylift.render.release import Release, render
from heavylift.render.runtime import RUNTIMES, Runtime
from heavylift.render.template import File

__all__ = ["RUNTIMES", "File", "Release", "Runtime", "host_files", "install_script", "render", "scrape_file"]
