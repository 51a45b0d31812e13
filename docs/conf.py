"""How Sphinx builds the documentation: nox -s docs."""

import shmring

project = "shmring"
author = "the shmring authors"
copyright = author
release = version = shmring.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "numpydoc"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"shmring {release}"
html_static_path = ["screens/motion.css"]
html_css_files = ["motion.css"]

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

# Docstrings carry the types; `name` in a docstring links where it can.
autodoc_typehints = "none"
autodoc_preserve_defaults = True
autodoc_member_order = "bysource"
autodoc_mock_imports = ["cmap", "gi", "jax", "jupyter_rfb", "ophyd_async", "p4p", "ray", "starlette", "torch"]
default_role = "py:obj"
numpydoc_show_class_members = False
numpydoc_xref_param_type = False


def without_self(app, what, name, obj, options, signature, return_annotation):
    """Drop the `self` that methods of the Cython classes name; before numpydoc reads their docstrings."""
    if signature:
        signature = signature.replace("(self, ", "(").replace("(self)", "()")
    return signature, return_annotation


def setup(app):
    app.connect("autodoc-process-signature", without_self, priority=1)
