"""The documentation as a site: `make docs` builds it, without a network, and a warning is an error."""

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE / "extensions")]

import insitu

project = "insitu"
author = "the insitu authors"
version = release = insitu.__version__
language = "en"

# The theme is this line; another one needs its package and nothing else.
html_theme = "furo"
html_title = f"insitu {version}"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_show_sphinx = False
html_copy_source = False
pygments_style = "a11y-high-contrast-light"
pygments_dark_style = "a11y-high-contrast-dark"

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "sphinx_gallery.gen_gallery",
    # In docs/extensions.
    "accessible",
    "figures",
    "mathml",
    "reference",
    "repository",
]
# Scripts that are no notebooks, and what the gallery writes beside its pages.
exclude_patterns = [
    "*.py",
    "extensions",
    "gallery",
    "examples/**/*.py",
    "examples/**/*.ipynb",
    "**/sg_execution_times.rst",
]
suppress_warnings = ["config.cache"]

# Pages as they are read in the repository, and notebooks as Python.
myst_heading_anchors = 4
myst_enable_extensions = ["colon_fence", "dollarmath"]
nb_custom_formats = {".py": ["jupytext.reads", {"fmt": "py:percent"}]}
nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_in_temp = True
nb_execution_timeout = 300
nb_execution_show_tb = True
nb_merge_streams = True

# The reference: shapes stand in the signatures, formulas in the docstrings.
autodoc_member_order = "bysource"
autodoc_inherit_docstrings = False
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
maximum_signature_line_length = 88
python_use_unqualified_type_names = True
add_module_names = False
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False

copybutton_prompt_text = r">>> |\.\.\. "
copybutton_prompt_is_regexp = True
copybutton_only_copy_prompt_lines = True

sphinx_gallery_conf = {
    "examples_dirs": "gallery",
    "gallery_dirs": "examples",
    "filename_pattern": r"\.py$",
    "ignore_pattern": r"conf\.py",
    "image_scrapers": ("figures.vector_figures",),
    "abort_on_example_error": True,
    "download_all_examples": False,
    "show_memory": False,
    "show_signature": False,
    "write_computation_times": False,
    "min_reported_time": 60,
    "remove_config_comments": True,
    "subsection_order": ["gallery/papers", "gallery/laboratory"],
    "within_subsection_order": "FileNameSortKey",
    "default_thumb_file": str(HERE / "pictures" / "depth.svg"),
}
